//! A norm's gradients, in two stages and one pass.

use cubecl::prelude::*;

use super::{ROWS, UNITS_OF_CUBE};

/// The gradient passes as it is.
pub(in crate::cube) const MASK_NONE: u32 = 0;
/// It passes where the block's output is positive.
pub(in crate::cube) const MASK_OUTPUT: u32 = 1;
/// It passes where the norm's output, computed again from its input, is positive: one tensor less to keep and to read.
pub(in crate::cube) const MASK_INPUT: u32 = 2;

/// The gradient that reaches the norm's output: `gradient` where the ReLU let the value pass.
#[cube]
fn masked<F: Float, N: Size>(
    gradient: Vector<f32, N>,
    normalized: Vector<f32, N>,
    gamma: Vector<f32, N>,
    beta: Vector<f32, N>,
    y: &[Vector<F, N>],
    position: usize,
    #[comptime] mask: u32,
) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::zero();
    if comptime!(mask == MASK_NONE) {
        gradient
    } else if comptime!(mask == MASK_OUTPUT) {
        let value = Vector::<f32, N>::cast_from(y[position]);
        select_many(value.greater_than(&zero), gradient, zero)
    } else {
        let value = normalized * gamma + beta;
        select_many(value.greater_than(&zero), gradient, zero)
    }
}

/// Sums of `g` and of `g * normalized` per channel over this cube's rows, `g` being the masked gradient.
#[cube(launch_unchecked)]
pub(in crate::cube) fn gradient_partial<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    mean: &[Vector<f32, N>],
    inverse: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    sums: &mut [Vector<f32, N>],
    products: &mut [Vector<f32, N>],
    rows: usize,
    columns: usize,
    rows_per_cube: usize,
    #[comptime] mask: u32,
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
    let mean = mean[column];
    let inverse = inverse[column];
    let gamma = gamma[column];
    let beta = beta[column];
    let mut sum = Vector::<f32, N>::zero();
    let mut product = Vector::<f32, N>::zero();
    let mut row = first + unit_y;
    while row + (ROWS - 1) * units_y < end {
        #[unroll]
        for step in 0..ROWS {
            let position = (row + step * units_y) * columns + column;
            let normalized = (Vector::<f32, N>::cast_from(x[position]) - mean) * inverse;
            let value = Vector::<f32, N>::cast_from(gradient[position]);
            let value = masked::<F, N>(value, normalized, gamma, beta, y, position, mask);
            sum += value;
            product += value * normalized;
        }
        row += ROWS * units_y;
    }
    while row < end {
        let position = row * columns + column;
        let normalized = (Vector::<f32, N>::cast_from(x[position]) - mean) * inverse;
        let value = Vector::<f32, N>::cast_from(gradient[position]);
        let value = masked::<F, N>(value, normalized, gamma, beta, y, position, mask);
        sum += value;
        product += value * normalized;
        row += units_y;
    }
    let mut shared_sum = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    let mut shared_product = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    shared_sum[UNIT_POS as usize] = sum;
    shared_product[UNIT_POS as usize] = product;
    sync_cube();
    if unit_y == 0 && is_inside {
        for unit in 1..units_y {
            sum += shared_sum[unit * units_x + unit_x];
            product += shared_product[unit * units_x + unit_x];
        }
        let position = CUBE_POS_Y as usize * columns + column;
        sums[position] = sum;
        products[position] = product;
    }
}

/// Adds up the partial sums of both: the gradients of beta and gamma. A cube of 32 x 8 units takes 32 channels.
#[cube(launch_unchecked)]
pub(in crate::cube) fn gradient_finish(
    sums: &[f32],
    products: &[f32],
    beta: &mut [f32],
    gamma: &mut [f32],
    channels: usize,
    splits: usize,
) {
    let channel = CUBE_POS_X as usize * 32 + UNIT_POS_X as usize;
    let is_inside = channel < channels;
    let channel = min(channel, channels - 1);
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    let mut split = UNIT_POS_Y as usize;
    while split < splits {
        sum += sums[split * channels + channel];
        product += products[split * channels + channel];
        split += 8usize;
    }
    let mut shared_sum = Shared::<[f32]>::new_slice(256usize);
    let mut shared_product = Shared::<[f32]>::new_slice(256usize);
    shared_sum[UNIT_POS as usize] = sum;
    shared_product[UNIT_POS as usize] = product;
    sync_cube();
    if UNIT_POS_Y == 0 && is_inside {
        for unit in 1..8usize {
            sum += shared_sum[unit * 32 + UNIT_POS_X as usize];
            product += shared_product[unit * 32 + UNIT_POS_X as usize];
        }
        beta[channel] = sum;
        gamma[channel] = product;
    }
}

/// `dx = gamma * inverse * (g - sum(g) / n - normalized * sum(g * normalized) / n)`, and `g` itself for the shortcut.
///
/// `reciprocal` is `1 / n`, over all positions of the norm's map.
#[cube(launch_unchecked)]
pub(in crate::cube) fn gradient_apply<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    mean: &[Vector<f32, N>],
    inverse: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    sums: &[Vector<f32, N>],
    products: &[Vector<f32, N>],
    dx: &mut [Vector<F, N>],
    shortcut: &mut [Vector<F, N>],
    reciprocal: f32,
    rows: usize,
    columns: usize,
    #[comptime] mask: u32,
    #[comptime] has_shortcut: bool,
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
    let inverse = inverse[column];
    let gamma = gamma[column];
    let beta = beta[column];
    let reciprocal = Vector::<f32, N>::new(reciprocal);
    let sum = sums[column] * reciprocal;
    let product = products[column] * reciprocal;
    #[unroll]
    for step in 0..ROWS {
        let row = first + step * units_y;
        if row < rows {
            let position = row * columns + column;
            let normalized = (Vector::<f32, N>::cast_from(x[position]) - mean) * inverse;
            let value = Vector::<f32, N>::cast_from(gradient[position]);
            let value = masked::<F, N>(value, normalized, gamma, beta, y, position, mask);
            let result = gamma * inverse * (value - sum - normalized * product);
            dx[position] = Vector::<F, N>::cast_from(result);
            if comptime!(has_shortcut) {
                shortcut[position] = Vector::<F, N>::cast_from(value);
            }
        }
    }
}
