//! The draw from the posterior and its KL divergence.

use cubecl::prelude::*;

use super::optimizer::{FACTORS_KL_WEIGHT, STATE_UPDATES, factors_behind};
use super::{UNITS, cube_sum};

/// Twice the KL divergence of one dimension to the standard normal.
#[cube]
fn twice_kl(mean: f32, log_variance: f32) -> f32 {
    mean * mean + ((log_variance.exp() - 1.0f32) - log_variance)
}

/// Adds the heads' biases, draws `mean + exp(share * log_variance) * noise`, and sums each image's KL divergence to the standard normal. A cube an image.
///
/// `share` is 1/2 for the correct sampler.
#[cube(launch_unchecked)]
pub(crate) fn draw<F: Float>(
    mean: &mut [f32],
    log_variance: &mut [f32],
    mean_bias: &[f32],
    log_variance_bias: &[f32],
    noise: &[f32],
    latent: &mut [F],
    kl: &mut [f32],
    first_kl: usize,
    dimensions: usize,
    share: f32,
    #[define(F)] _elem: ElemType,
) {
    let image = CUBE_POS;
    let mut sum = 0.0f32;
    let mut dimension = UNIT_POS as usize;
    while dimension < dimensions {
        let position = image * dimensions + dimension;
        let center = mean[position] + mean_bias[dimension];
        let logarithm = log_variance[position] + log_variance_bias[dimension];
        mean[position] = center;
        log_variance[position] = logarithm;
        let drawn = center + (logarithm * share).exp() * noise[position];
        latent[position] = F::cast_from(drawn);
        sum += twice_kl(center, logarithm);
        dimension += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        kl[first_kl + image] = 0.5f32 * sum;
    }
}

/// The gradients of mean and log-variance, from that of the draw and the weighted KL divergence of the mean over the batch; `slopes` has what each
/// dimension's divergence counts, 1 but for free bits.
#[cube(launch_unchecked)]
pub(crate) fn draw_gradient<F: Float>(
    mean: &[f32],
    log_variance: &[f32],
    noise: &[f32],
    latent_gradient: &[f32],
    rates: &[f32],
    state: &[f32],
    slopes: &[f32],
    mean_gradient: &mut [F],
    log_variance_gradient: &mut [F],
    count: usize,
    dimensions: usize,
    share: f32,
    reciprocal: f32,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    // This step is not counted yet.
    let factors = factors_behind(state[STATE_UPDATES], rates);
    let weight =
        rates[factors + FACTORS_KL_WEIGHT] * reciprocal * slopes[ABSOLUTE_POS % dimensions];
    let gradient = latent_gradient[ABSOLUTE_POS];
    let logarithm = log_variance[ABSOLUTE_POS];
    let deviation = (logarithm * share).exp();
    let of_mean = gradient + weight * mean[ABSOLUTE_POS];
    let of_logarithm = gradient * noise[ABSOLUTE_POS] * deviation * share
        + weight * 0.5f32 * (logarithm.exp() - 1.0f32);
    mean_gradient[ABSOLUTE_POS] = F::cast_from(of_mean);
    log_variance_gradient[ABSOLUTE_POS] = F::cast_from(of_logarithm);
}

/// Each dimension's KL divergence, summed over the images.
#[cube(launch_unchecked)]
pub(crate) fn kl_sums(
    mean: &[f32],
    log_variance: &[f32],
    sums: &mut [f32],
    images: usize,
    dimensions: usize,
) {
    if ABSOLUTE_POS >= dimensions {
        terminate!();
    }
    let mut sum = 0.0f32;
    let mut image = 0usize;
    while image < images {
        let position = image * dimensions + ABSOLUTE_POS;
        sum += twice_kl(mean[position], log_variance[position]);
        image += 1;
    }
    sums[ABSOLUTE_POS] = 0.5f32 * sum;
}

/// Free bits (Kingma et al. 2016): a dimension whose mean over the batch is not above `free` costs that, whatever it does. Writes what each
/// dimension's divergence counts, and the sum of what all cost. One cube.
#[cube(launch_unchecked)]
pub(crate) fn free_bits(
    sums: &[f32],
    slopes: &mut [f32],
    record: &mut [f32],
    at: usize,
    dimensions: usize,
    reciprocal: f32,
    free: f32,
) {
    let mut cost = 0.0f32;
    let mut dimension = UNIT_POS as usize;
    while dimension < dimensions {
        let mean = sums[dimension] * reciprocal;
        let counts = mean > free;
        slopes[dimension] = select(counts, 1.0f32, 0.0f32);
        cost += select(counts, mean, free);
        dimension += UNITS;
    }
    let cost = cube_sum(cost);
    if UNIT_POS == 0 {
        record[at] = cost;
    }
}

/// Copies values into a buffer that stays where it is.
#[cube(launch_unchecked)]
pub(crate) fn copy<F: Float>(
    from: &[f32],
    to: &mut [F],
    count: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS < count {
        to[ABSOLUTE_POS] = F::cast_from(from[ABSOLUTE_POS]);
    }
}
