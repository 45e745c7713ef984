//! An enlarging block without its zeros: what the constant between the values gives, and its gradient.
//!
//! A transposed 1x1 convolution of stride `s` puts a value on every `s`-th row and column and its bias elsewhere, which the norm takes off again:
//! elsewhere the norm's output is one constant a channel. The 3x3 convolution of such a map is that of the constant, with nine different
//! results (corners, edges, inside), plus that of the differences from it, nine products a value.

use cubecl::prelude::*;

use super::{ROWS, UNITS_OF_CUBE};

/// Units of a cube of [`constant_kinds`].
pub(in crate::cube) const DOT_UNITS: usize = 64;

/// `relu(norm(0))` per channel, `[channels_in]`, and what the convolution makes of it at the nine kinds of position, `[3 * 3, channels_out]`: first,
/// inner and last row times first, inner and last column. `packed` is the scattering form of the weights; a cube takes one of its channels.
#[cube(launch_unchecked)]
pub(in crate::cube) fn constant_kinds<F: Float>(
    packed: &[F],
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    beta: &[f32],
    constant: &mut [f32],
    kinds: &mut [f32],
    channels_in: usize,
    channels_out: usize,
    #[define(F)] _elem: ElemType,
) {
    let to = CUBE_POS;
    let unit = UNIT_POS as usize;
    let mut sums = Array::<f32>::new(9usize);
    #[unroll]
    for tap in 0..9usize {
        sums[tap] = 0.0f32;
    }
    let mut from = unit;
    while from < channels_in {
        let value = beta[from] - mean[from] * (inverse[from] * gamma[from]);
        let value = max_nan(value, 0.0f32);
        if to == 0 {
            constant[from] = value;
        }
        #[unroll]
        for tap in 0..9usize {
            let weight = packed[(tap * channels_out + to) * channels_in + from];
            sums[tap] += f32::cast_from(weight) * value;
        }
        from += DOT_UNITS;
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(9 * DOT_UNITS));
    let mut products = Shared::<[f32]>::new_slice(9usize);
    #[unroll]
    for tap in 0..9usize {
        shared[tap * DOT_UNITS + unit] = sums[tap];
    }
    sync_cube();
    if unit < 9 {
        let mut sum = 0.0f32;
        for other in 0..DOT_UNITS {
            sum += shared[unit * DOT_UNITS + other];
        }
        products[unit] = sum;
    }
    sync_cube();
    if unit < 9 {
        let (down, across) = (unit / 3, unit % 3);
        let mut sum = 0.0f32;
        #[unroll]
        for tap in 0..9usize {
            // The last tap's source lies above the first row, the first tap's below the last one.
            let is_down = down + comptime!(tap / 3) != 2 || down == 1;
            let is_across = across + comptime!(tap % 3) != 2 || across == 1;
            if is_down && is_across {
                sum += products[tap];
            }
        }
        kinds[unit * channels_out + to] = sum;
    }
}

/// For each tap, the gradient's sum over the positions whose source for it lies inside the image; over this cube's rows.
///
/// Cubes and units as in the moments. `[splits, 9, channels]`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn tap_sums_partial<F: Float, N: Size>(
    gradient: &[Vector<F, N>],
    sums: &mut [Vector<f32, N>],
    rows: usize,
    columns: usize,
    rows_per_cube: usize,
    height: usize,
    width: usize,
    units_x: usize,
    #[define(F)] _elem: ElemType,
) {
    let (unit_x, unit_y) = (UNIT_POS as usize % units_x, UNIT_POS as usize / units_x);
    let units_y = UNITS_OF_CUBE / units_x;
    let column = CUBE_POS_X as usize * units_x + unit_x;
    let is_inside = column < columns;
    let column = min(column, columns - 1);
    let first = CUBE_POS_Y as usize * rows_per_cube;
    let end = min(first + rows_per_cube, rows);
    let zero = Vector::<f32, N>::zero();
    // Sums over: all, first row, last row, and of each the first and last column.
    let mut sums_of = Array::<Vector<f32, N>>::new(9usize);
    #[unroll]
    for region in 0..9usize {
        sums_of[region] = zero;
    }
    let mut row = first + unit_y;
    while row < end {
        let across = row % width;
        let down = (row / width) % height;
        let value = Vector::<f32, N>::cast_from(gradient[row * columns + column]);
        let is_first = across == 0;
        let is_last = across + 1 == width;
        sums_of[0] += value;
        if is_first {
            sums_of[1] += value;
        }
        if is_last {
            sums_of[2] += value;
        }
        if down == 0 {
            sums_of[3] += value;
            if is_first {
                sums_of[4] += value;
            }
            if is_last {
                sums_of[5] += value;
            }
        }
        if down + 1 == height {
            sums_of[6] += value;
            if is_first {
                sums_of[7] += value;
            }
            if is_last {
                sums_of[8] += value;
            }
        }
        row += units_y;
    }
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    #[unroll]
    for region in 0..9usize {
        shared[UNIT_POS as usize] = sums_of[region];
        sync_cube();
        if unit_y == 0 && is_inside {
            let mut sum = sums_of[region];
            for unit in 1..units_y {
                sum += shared[unit * units_x + unit_x];
            }
            sums[(CUBE_POS_Y as usize * 9 + region) * columns + column] = sum;
        }
        sync_cube();
    }
}

/// The sums of each tap, `[9, channels]`, from the partial sums over all positions, edges and corners.
#[cube(launch_unchecked)]
pub(in crate::cube) fn tap_sums_finish(
    partial: &[f32],
    sums: &mut [f32],
    channels: usize,
    splits: usize,
) {
    if ABSOLUTE_POS >= channels {
        terminate!();
    }
    let mut regions = Array::<f32>::new(9usize);
    #[unroll]
    for region in 0..9usize {
        let mut sum = 0.0f32;
        for split in 0..splits {
            sum += partial[(split * 9 + region) * channels + ABSOLUTE_POS];
        }
        regions[region] = sum;
    }
    #[unroll]
    for tap in 0..9usize {
        // Tap 0 has no source in the last row or column, tap 2 none in the first.
        let across = comptime!(match tap % 3 {
            0 => 2usize,
            2 => 1usize,
            _ => 0usize,
        });
        let down = comptime!(match tap / 3 {
            0 => 6usize,
            2 => 3usize,
            _ => 0usize,
        });
        let mut sum = regions[0];
        if comptime!(across > 0) {
            sum -= regions[across];
        }
        if comptime!(down > 0) {
            sum -= regions[down];
        }
        if comptime!(across > 0 && down > 0) {
            sum += regions[comptime!(across + down)];
        }
        sums[tap * channels + ABSOLUTE_POS] = sum;
    }
}

/// Adds the share of the positions that hold zero to the gradients of gamma and beta of a norm over an interleaved map.
///
/// `elsewhere` is the sum of the gradients at those positions: given, or (`is_of_all`) the sum at all positions, of which `beta` holds that of the
/// others. `[channels]`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn add_elsewhere(
    elsewhere: &[f32],
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    beta: &[f32],
    beta_gradient: &mut [f32],
    gamma_gradient: &mut [f32],
    channels: usize,
    is_of_all: u32,
    is_relu: u32,
) {
    if ABSOLUTE_POS >= channels {
        terminate!();
    }
    let normalized = 0.0f32 - mean[ABSOLUTE_POS] * inverse[ABSOLUTE_POS];
    let mut sum = elsewhere[ABSOLUTE_POS];
    if is_of_all == 1u32 {
        sum -= beta_gradient[ABSOLUTE_POS];
    }
    if is_relu == 1u32 {
        let value = normalized * gamma[ABSOLUTE_POS] + beta[ABSOLUTE_POS];
        if value <= 0.0f32 {
            sum = 0.0f32;
        }
    }
    beta_gradient[ABSOLUTE_POS] += sum;
    gamma_gradient[ABSOLUTE_POS] += sum * normalized;
}

/// Sums per channel over this cube's rows, each row times its weight where there are weights; cubes and units as in the moments.
#[cube(launch_unchecked)]
pub(in crate::cube) fn column_sums_partial<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weights: ComptimeOption<&[f32]>,
    sums: &mut [Vector<f32, N>],
    rows: usize,
    columns: usize,
    rows_per_cube: usize,
    units_x: usize,
    #[define(F)] _elem: ElemType,
) {
    let (unit_x, unit_y) = (UNIT_POS as usize % units_x, UNIT_POS as usize / units_x);
    let units_y = UNITS_OF_CUBE / units_x;
    let column = CUBE_POS_X as usize * units_x + unit_x;
    let is_inside = column < columns;
    let column = min(column, columns - 1);
    let first = CUBE_POS_Y as usize * rows_per_cube;
    let end = min(first + rows_per_cube, rows);
    let mut sum = Vector::<f32, N>::zero();
    let mut row = first + unit_y;
    while row + (ROWS - 1) * units_y < end {
        #[unroll]
        for step in 0..ROWS {
            let at = row + step * units_y;
            let value = Vector::<f32, N>::cast_from(x[at * columns + column]);
            let weight: ComptimeOption<f32> = weights.as_ref().map(|weights| weights[at]);
            sum += value * Vector::<f32, N>::new(weight.unwrap_or(1.0f32));
        }
        row += ROWS * units_y;
    }
    while row < end {
        let value = Vector::<f32, N>::cast_from(x[row * columns + column]);
        let weight: ComptimeOption<f32> = weights.as_ref().map(|weights| weights[row]);
        sum += value * Vector::<f32, N>::new(weight.unwrap_or(1.0f32));
        row += units_y;
    }
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    if unit_y == 0 && is_inside {
        for unit in 1..units_y {
            sum += shared[unit * units_x + unit_x];
        }
        sums[CUBE_POS_Y as usize * columns + column] = sum;
    }
}

/// Adds up partial sums, less `subtracted` where `is_less` is 1; `[channels]`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn column_sums_finish(
    partial: &[f32],
    subtracted: &[f32],
    sums: &mut [f32],
    channels: usize,
    splits: usize,
    is_less: u32,
) {
    if ABSOLUTE_POS >= channels {
        terminate!();
    }
    let mut sum = 0.0f32;
    for split in 0..splits {
        sum += partial[split * channels + ABSOLUTE_POS];
    }
    if is_less == 1u32 {
        sum -= subtracted[ABSOLUTE_POS];
    }
    sums[ABSOLUTE_POS] = sum;
}
