//! What the shards of a batch contribute to a step, and its sums.

use cubecl::prelude::*;

/// `sum = gradients * share`, and behind them `moments * factors * share`: a value of the running statistics each.
#[cube(launch_unchecked)]
pub(crate) fn weigh(
    gradients: &[f32],
    moments: &[f32],
    factors: &[f32],
    sum: &mut [f32],
    parameters: usize,
    count: usize,
    share: f32,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    if ABSOLUTE_POS < parameters {
        sum[ABSOLUTE_POS] = gradients[ABSOLUTE_POS] * share;
    } else {
        let statistic = ABSOLUTE_POS - parameters;
        sum[ABSOLUTE_POS] = moments[statistic] * factors[statistic] * share;
    }
}

/// `sum += other`, for so many values from `first` on.
#[cube(launch_unchecked)]
pub(crate) fn add(sum: &mut [f32], other: &[f32], first: usize, count: usize) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let position = first + ABSOLUTE_POS;
    sum[position] += other[position];
}
