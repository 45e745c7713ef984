//! The running statistics of all norms.

use cubecl::prelude::*;

use super::optimizer::{STATE_TAKEN, factors_at};

/// In `bias_positions`: a statistic that no bias belongs to.
pub(crate) const NO_BIAS: u32 = u32::MAX;

/// `running = running * kept + (moment + bias) * factor`, where the step is taken; `average` goes after it.
///
/// A mean is that of a product without its bias, which belongs to it; `factors` hold the newest batch's weight, for a variance times what makes it
/// an unbiased estimate.
#[cube(launch_unchecked)]
pub(crate) fn update_running(
    running: &mut [f32],
    moments: &[f32],
    weights: &[f32],
    bias_positions: &[u32],
    kept: &[f32],
    factors: &[f32],
    average: &mut [f32],
    state: &[f32],
    rates: &[f32],
    count: usize,
    #[comptime] is_averaged: bool,
) {
    if ABSOLUTE_POS >= count || state[STATE_TAKEN] < 0.5f32 {
        terminate!();
    }
    let mut moment = moments[ABSOLUTE_POS];
    let bias = bias_positions[ABSOLUTE_POS];
    if bias != NO_BIAS {
        moment += weights[bias as usize];
    }
    let new = running[ABSOLUTE_POS] * kept[ABSOLUTE_POS] + moment * factors[ABSOLUTE_POS];
    running[ABSOLUTE_POS] = new;
    if comptime!(is_averaged) {
        let old = average[ABSOLUTE_POS];
        average[ABSOLUTE_POS] = old + (new - old) * rates[factors_at(state, rates) + 2];
    }
}
