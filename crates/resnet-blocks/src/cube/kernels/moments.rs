//! Mean and variance per channel, in two stages.

use cubecl::prelude::*;

use super::{ROWS, UNITS_OF_CUBE};

/// Sums of `x - x[0]` and of its square, per channel, over this cube's rows.
///
/// Cubes: x over channels, y over rows. Units: x over channels, y over rows. The first row as pivot keeps the squares small where the mean is
/// large; it is the same for all cubes, so partial sums add up.
#[cube(launch_unchecked)]
pub(in crate::cube) fn moments_partial<F: Float, N: Size>(
    x: &[Vector<F, N>],
    sums: &mut [Vector<f32, N>],
    squares: &mut [Vector<f32, N>],
    rows: usize,
    columns: usize,
    rows_per_cube: usize,
    units_x: usize,
    #[define(F)] _elem: ElemType,
) {
    let (unit_x, unit_y) = (UNIT_POS as usize % units_x, UNIT_POS as usize / units_x);
    let units_y = UNITS_OF_CUBE / units_x;
    let column = CUBE_POS_X as usize * units_x + unit_x;
    // Units beyond the last channel compute it again: every unit reaches `sync_cube`.
    let is_inside = column < columns;
    let column = min(column, columns - 1);
    let first = CUBE_POS_Y as usize * rows_per_cube;
    let end = min(first + rows_per_cube, rows);
    let pivot = Vector::<f32, N>::cast_from(x[column]);
    let mut sum = Vector::<f32, N>::zero();
    let mut square = Vector::<f32, N>::zero();
    let mut row = first + unit_y;
    while row + (ROWS - 1) * units_y < end {
        #[unroll]
        for step in 0..ROWS {
            let value = Vector::<f32, N>::cast_from(x[(row + step * units_y) * columns + column]);
            let value = value - pivot;
            sum += value;
            square += value * value;
        }
        row += ROWS * units_y;
    }
    while row < end {
        let value = Vector::<f32, N>::cast_from(x[row * columns + column]) - pivot;
        sum += value;
        square += value * value;
        row += units_y;
    }
    let mut shared_sum = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    let mut shared_square = Shared::<[Vector<f32, N>]>::new_slice(UNITS_OF_CUBE);
    shared_sum[UNIT_POS as usize] = sum;
    shared_square[UNIT_POS as usize] = square;
    sync_cube();
    if unit_y == 0 && is_inside {
        for unit in 1..units_y {
            sum += shared_sum[unit * units_x + unit_x];
            square += shared_square[unit * units_x + unit_x];
        }
        let position = CUBE_POS_Y as usize * columns + column;
        sums[position] = sum;
        squares[position] = square;
    }
}

/// Mean, variance (of all values) and `1 / sqrt(variance + epsilon)` per channel from the partial sums.
///
/// `spread` counts the positions of the norm's map for each value: where it is above 1, all others hold zero, and the moments
/// are those of the whole map. A cube of 32 x 8 units takes 32 channels.
#[cube(launch_unchecked)]
pub(in crate::cube) fn moments_finish<F: Float>(
    x: &[F],
    sums: &[f32],
    squares: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
    inverse: &mut [f32],
    count: f32,
    spread: f32,
    channels: usize,
    splits: usize,
    epsilon: f32,
    #[define(F)] _elem: ElemType,
) {
    let channel = CUBE_POS_X as usize * 32 + UNIT_POS_X as usize;
    let is_inside = channel < channels;
    let channel = min(channel, channels - 1);
    let mut sum = 0.0f32;
    let mut square = 0.0f32;
    let mut split = UNIT_POS_Y as usize;
    while split < splits {
        sum += sums[split * channels + channel];
        square += squares[split * channels + channel];
        split += 8usize;
    }
    let mut shared_sum = Shared::<[f32]>::new_slice(256usize);
    let mut shared_square = Shared::<[f32]>::new_slice(256usize);
    shared_sum[UNIT_POS as usize] = sum;
    shared_square[UNIT_POS as usize] = square;
    sync_cube();
    if UNIT_POS_Y == 0 && is_inside {
        for unit in 1..8usize {
            sum += shared_sum[unit * 32 + UNIT_POS_X as usize];
            square += shared_square[unit * 32 + UNIT_POS_X as usize];
        }
        let shift = sum / count;
        // `max_nan`: a NaN among the values must reach the variance.
        let dense = max_nan(square / count - shift * shift, 0.0f32);
        let center = f32::cast_from(x[channel]) + shift;
        // Of `spread` values one is `center` on average and the others are zero: every term is positive.
        let share = 1.0f32 / spread;
        let all = share * dense + center * center * share * (1.0f32 - share);
        mean[channel] = center * share;
        variance[channel] = all;
        inverse[channel] = 1.0f32 / (all + epsilon).sqrt();
    }
}

/// The statistics that a norm uses in evaluation. The products leave the layer's bias out, so the mean leaves it out too.
#[cube(launch_unchecked)]
pub(in crate::cube) fn given_statistics(
    running_mean: &[f32],
    running_variance: &[f32],
    bias: &[f32],
    mean: &mut [f32],
    inverse: &mut [f32],
    channels: usize,
    epsilon: f32,
) {
    if ABSOLUTE_POS < channels {
        mean[ABSOLUTE_POS] = running_mean[ABSOLUTE_POS] - bias[ABSOLUTE_POS];
        inverse[ABSOLUTE_POS] = 1.0f32 / (running_variance[ABSOLUTE_POS] + epsilon).sqrt();
    }
}
