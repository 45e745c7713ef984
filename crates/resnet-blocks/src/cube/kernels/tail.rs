//! What follows a product: norm, sum with the shortcut, ReLU.

use cubecl::prelude::*;

use super::{ROWS, UNITS_OF_CUBE};

/// Nothing is added.
pub(in crate::cube) const ADD_NOTHING: u32 = 0;
/// The block's input.
pub(in crate::cube) const ADD_VALUE: u32 = 1;
/// The shortcut's map, normalised here; interleaved with zeros where the block enlarges the image.
pub(in crate::cube) const ADD_NORMALIZED: u32 = 2;

/// `y = relu((x - mean) * inverse * gamma + beta) - constant`; the constant is the norm's value of zero where `is_constant_left_out` is 1.
#[cube(launch_unchecked)]
pub(in crate::cube) fn norm_relu<F: Float, N: Size>(
    x: &[Vector<F, N>],
    mean: &[Vector<f32, N>],
    inverse: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    rows: usize,
    columns: usize,
    is_constant_left_out: u32,
    units_x: usize,
    #[define(F)] _elem: ElemType,
) {
    let (unit_x, unit_y) = (UNIT_POS as usize % units_x, UNIT_POS as usize / units_x);
    let units_y = UNITS_OF_CUBE / units_x;
    let column = CUBE_POS_X as usize * units_x + unit_x;
    if column >= columns {
        terminate!();
    }
    let first = CUBE_POS_Y as usize * (ROWS * units_y) + unit_y;
    let mean = mean[column];
    let scale = inverse[column] * gamma[column];
    let shift = beta[column];
    let zero = Vector::<f32, N>::zero();
    let mut constant = zero;
    if is_constant_left_out == 1u32 {
        constant = max_nan(shift - mean * scale, zero);
    }
    #[unroll]
    for step in 0..ROWS {
        let row = first + step * units_y;
        if row < rows {
            let position = row * columns + column;
            let value = (Vector::<f32, N>::cast_from(x[position]) - mean) * scale + shift;
            y[position] = Vector::<F, N>::cast_from(max_nan(value, zero) - constant);
        }
    }
}

/// The end of a block: `y = relu(norm(x) + shortcut)`.
///
/// `other` is what the shortcut adds: nothing, its rows as they are, or their norm. The output has `height * width` rows an image; with
/// `stride` above 1 the shortcut's norm has a row of its own on every `stride`-th row and column, and elsewhere normalises zero.
#[cube(launch_unchecked)]
pub(in crate::cube) fn block_tail<F: Float, N: Size>(
    x: &[Vector<F, N>],
    mean: &[Vector<f32, N>],
    inverse: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    other: &[Vector<F, N>],
    other_mean: &[Vector<f32, N>],
    other_inverse: &[Vector<f32, N>],
    other_gamma: &[Vector<f32, N>],
    other_beta: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
    stride: usize,
    #[comptime] added: u32,
    units_x: usize,
    #[define(F)] _elem: ElemType,
) {
    let (unit_x, unit_y) = (UNIT_POS as usize % units_x, UNIT_POS as usize / units_x);
    let units_y = UNITS_OF_CUBE / units_x;
    let column = CUBE_POS_X as usize * units_x + unit_x;
    if column >= columns {
        terminate!();
    }
    let first = CUBE_POS_Y as usize * (ROWS * units_y) + unit_y;
    let mean = mean[column];
    let scale = inverse[column] * gamma[column];
    let shift = beta[column];
    let other_mean = other_mean[column];
    let other_scale = other_inverse[column] * other_gamma[column];
    let other_shift = other_beta[column];
    let zero = Vector::<f32, N>::zero();
    #[unroll]
    for step in 0..ROWS {
        let row = first + step * units_y;
        if row < rows {
            let position = row * columns + column;
            let mut value = (Vector::<f32, N>::cast_from(x[position]) - mean) * scale + shift;
            if comptime!(added == ADD_VALUE) {
                value += Vector::<f32, N>::cast_from(other[position]);
            }
            if comptime!(added == ADD_NORMALIZED) {
                let across = row % width;
                let down = (row / width) % height;
                let mut raw = zero;
                if across % stride == 0 && down % stride == 0 {
                    let image = row / (width * height);
                    let low = (image * (height / stride) + down / stride) * (width / stride)
                        + across / stride;
                    raw = Vector::<f32, N>::cast_from(other[low * columns + column]);
                }
                value += (raw - other_mean) * other_scale + other_shift;
            }
            y[position] = Vector::<F, N>::cast_from(max_nan(value, zero));
        }
    }
}
