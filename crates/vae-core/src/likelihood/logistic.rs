//! Discretised logistic distributions.

use burn::prelude::*;

use super::levels::{
    HALF_LEVEL, inverse_scale, levels, log_one_minus_exp, round_to_level, softplus, to_signed,
};
use super::reduction::per_image;

/// Negative log-probability of each image, `[batch]`, from mean and log-scale of every value.
pub(super) fn nll(mean: Tensor<4>, log_scale: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
    per_image(log_probability(levels(images), mean, log_scale)).neg()
}

/// Log-probability of each level under a logistic distribution.
///
/// With b and a the upper and lower edge of the level, in scales from the mean:
/// sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), whose logarithm is exact at any distance.
pub(super) fn log_probability<const D: usize>(
    levels: Tensor<D>,
    mean: Tensor<D>,
    log_scale: Tensor<D>,
) -> Tensor<D> {
    let (lowest, highest) = (
        levels.clone().equal_elem(0.0),
        levels.clone().equal_elem(255.0),
    );
    let inverse = inverse_scale(log_scale);
    let centred = to_signed(levels) - mean;
    let upper = inverse.clone() * centred.clone().add_scalar(HALF_LEVEL);
    let lower = inverse.clone() * centred.sub_scalar(HALF_LEVEL);
    // All three are finite wherever the parameters are, so that none spoils the gradient of another.
    let below_upper = softplus(upper.neg()).neg();
    let above_lower = softplus(lower).neg();
    let inside = below_upper.clone()
        + above_lower.clone()
        + log_one_minus_exp(inverse.mul_scalar(2.0 * HALF_LEVEL));
    inside
        .mask_where(lowest, below_upper)
        .mask_where(highest, above_lower)
}

/// A draw, rounded to its level, on the scale from -1 to 1.
pub(super) fn sample<const D: usize>(
    mean: Tensor<D>,
    log_scale: Tensor<D>,
    uniform: Tensor<D>,
) -> Tensor<D> {
    round_to_level(mean + quantile(uniform) / inverse_scale(log_scale))
}

/// The standard logistic quantile: log(u) - log(1 - u).
pub(super) fn quantile<const D: usize>(uniform: Tensor<D>) -> Tensor<D> {
    uniform.clone().log() - uniform.neg().log1p()
}
