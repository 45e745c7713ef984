//! Moving pixels: sampling and spreading by a stride, 3x3 neighbourhoods, and their sums.

use cubecl::prelude::*;

/// The rows that a stride samples. With a mask, only where `y` is positive; a stride of 1 copies.
#[cube(launch_unchecked)]
pub(in crate::cube) fn sample<F: Float, N: Size>(
    image: &[Vector<F, N>],
    y: &[Vector<F, N>],
    low: &mut [Vector<F, N>],
    count: usize,
    columns: usize,
    height: usize,
    width: usize,
    low_height: usize,
    low_width: usize,
    stride: usize,
    #[comptime] is_masked: bool,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let row = ABSOLUTE_POS / columns;
    let across = row % low_width;
    let down = (row / low_width) % low_height;
    let index = row / (low_width * low_height);
    let position = ((index * height + down * stride) * width + across * stride) * columns + column;
    let value = image[position];
    if comptime!(is_masked) {
        let zero = Vector::<f32, N>::zero();
        let passed = Vector::<f32, N>::cast_from(y[position]).greater_than(&zero);
        let value = select_many(passed, Vector::<f32, N>::cast_from(value), zero);
        low[ABSOLUTE_POS] = Vector::<F, N>::cast_from(value);
    } else {
        low[ABSOLUTE_POS] = value;
    }
}

/// The opposite of [`sample`]: rows to the positions that the stride samples, zero elsewhere.
#[cube(launch_unchecked)]
pub(in crate::cube) fn spread_rows<F: Float, N: Size>(
    low: &[Vector<F, N>],
    image: &mut [Vector<F, N>],
    count: usize,
    columns: usize,
    height: usize,
    width: usize,
    low_height: usize,
    low_width: usize,
    stride: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let row = ABSOLUTE_POS / columns;
    let across = row % width;
    let down = (row / width) % height;
    let index = row / (width * height);
    let mut value = Vector::<F, N>::zero();
    if across % stride == 0 && down % stride == 0 {
        let from = (index * low_height + down / stride) * low_width + across / stride;
        value = low[from * columns + column];
    }
    image[ABSOLUTE_POS] = value;
}

/// The 3x3 neighbourhood of every sampled pixel, nine rows side by side; zero outside the image.
///
/// `[images * low_height * low_width, 9 * channels]`, rows of the kernel slowest. One unit copies nine vectors.
#[cube(launch_unchecked)]
pub(in crate::cube) fn patches<F: Float, N: Size>(
    image: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    count: usize,
    columns: usize,
    height: usize,
    width: usize,
    low_height: usize,
    low_width: usize,
    stride: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let pixel = ABSOLUTE_POS / columns;
    let across = (pixel % low_width) * stride;
    let down = ((pixel / low_width) % low_height) * stride;
    let index = pixel / (low_width * low_height);
    #[unroll]
    for tap in 0..9usize {
        // Both one too large, so that they are never negative.
        let below = down + comptime!(tap / 3);
        let right = across + comptime!(tap % 3);
        let mut value = Vector::<F, N>::zero();
        if below >= 1 && below <= height && right >= 1 && right <= width {
            value = image[((index * height + below - 1) * width + right - 1) * columns + column];
        }
        out[(pixel * 9 + tap) * columns + column] = value;
    }
}

/// The 3x3 convolution of an image whose values stand on every `stride`-th row and column, from the products of each value with the nine
/// taps (`[rows, 9 * channels]`), plus what the constant elsewhere gives (`[3 x 3 kinds of position, channels]`, float32).
#[cube(launch_unchecked)]
pub(in crate::cube) fn interleaved_sum<F: Float, N: Size>(
    taps: &[Vector<F, N>],
    constant: &[Vector<f32, N>],
    out: &mut [Vector<F, N>],
    count: usize,
    columns: usize,
    height: usize,
    width: usize,
    low_height: usize,
    low_width: usize,
    stride: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let pixel = ABSOLUTE_POS / columns;
    let across = pixel % width;
    let down = (pixel / width) % height;
    let index = pixel / (width * height);
    let mut kind = 4usize;
    if down == 0 {
        kind -= 3;
    }
    if down + 1 == height {
        kind += 3;
    }
    if across == 0 {
        kind -= 1;
    }
    if across + 1 == width {
        kind += 1;
    }
    let mut sum = constant[kind * columns + column];
    #[unroll]
    for tap in 0..9usize {
        // The value one step up and left of the tap's offset wrote here: `position = stride * low + tap - 1`.
        let from_down = down + 1 - min(comptime!(tap / 3), down + 1);
        let from_across = across + 1 - min(comptime!(tap % 3), across + 1);
        let is_there = down + 1 >= comptime!(tap / 3)
            && across + 1 >= comptime!(tap % 3)
            && from_down % stride == 0
            && from_across % stride == 0
            && from_down / stride < low_height
            && from_across / stride < low_width;
        if is_there {
            let low = (index * low_height + from_down / stride) * low_width + from_across / stride;
            sum += Vector::<f32, N>::cast_from(taps[(low * 9 + tap) * columns + column]);
        }
    }
    out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(sum);
}
