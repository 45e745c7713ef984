//! The Bernoulli family made a distribution over the 256 levels: p(k) = exp(l k / 255) / Z(l).
//!
//! Z is a geometric sum, exp(l / 2) sinh(128 l / 255) / sinh(l / 510). With r(y) = log(sinh(y) / y) - y and a = |l|,
//! log Z = max(l, 0) + log 256 + r(128 a / 255) - r(a / 510): no two large numbers are subtracted.

use burn::prelude::*;

use super::levels::levels;
use super::reduction::per_image;
use super::sinh_series::{SERIES, SERIES_BELOW};

/// Negative log-probability of each image; `[batch]`.
pub(super) fn nll(logits: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
    let shares = levels(images).div_scalar(255.0);
    let magnitude = logits.clone().abs();
    // max(l, 0) as l / 2 + |l| / 2 has the right derivative, 1/2, where l is 0.
    let positive_part = (logits.clone() + magnitude.clone()).mul_scalar(0.5);
    // Multiplied, because Burn's backward of a division by a number computes that number's inverse in float32.
    let rest = remainder(magnitude.clone().mul_scalar(128.0 / 255.0))
        - remainder(magnitude.mul_scalar(1.0 / 510.0));
    per_image(positive_part - logits * shares + rest.add_scalar(256f64.ln()))
}

/// log(sinh(y) / y) - y of y >= 0.
fn remainder(y: Tensor<4>) -> Tensor<4> {
    let is_small = y.clone().lower_elem(SERIES_BELOW);
    let small = y
        .clone()
        .mask_fill(is_small.clone().bool_not(), SERIES_BELOW);
    let large = y.mask_fill(is_small.clone(), SERIES_BELOW);
    let square = small.clone().square();
    let series = SERIES
        .iter()
        .rev()
        .fold(square.zeros_like(), |sum, coefficient| {
            sum.add_scalar(*coefficient) * square.clone()
        });
    let direct = super::levels::log_one_minus_exp(large.clone().mul_scalar(2.0))
        - large.mul_scalar(2.0).log();
    direct.mask_where(is_small, series - small)
}

/// The mean level over 255, the derivative of log Z.
pub(super) fn mean(logits: Tensor<4>) -> Tensor<4> {
    let sign = logits.clone().sign();
    let magnitude = logits.abs();
    let slope = langevin(magnitude.clone().mul_scalar(128.0 / 255.0)).mul_scalar(128.0 / 255.0)
        - langevin(magnitude.div_scalar(510.0)).div_scalar(510.0);
    (sign * slope).add_scalar(0.5).clamp(0.0, 1.0)
}

/// coth(y) - 1 / y of y >= 0: the derivative of log(sinh(y) / y).
fn langevin(y: Tensor<4>) -> Tensor<4> {
    let is_small = y.clone().lower_elem(SERIES_BELOW);
    let large = y.clone().mask_fill(is_small.clone(), SERIES_BELOW);
    let square = y.clone().square();
    let terms = SERIES.iter().enumerate().rev();
    let series = terms.fold(square.zeros_like(), |sum, (index, coefficient)| {
        sum * square.clone() + square.ones_like() * (2.0 * (index + 1) as f64 * coefficient)
    });
    let direct = large.clone().tanh().recip() - large.recip();
    direct.mask_where(is_small, series * y)
}

/// A draw by the inverse of the distribution function, as k / 255.
pub(super) fn sample(logits: Tensor<4>, uniform: Tensor<4>) -> Tensor<4> {
    // Counted from the likelier end, levels have probabilities that fall by exp(-a) each.
    let is_rising = logits.clone().greater_elem(0.0);
    let fall = logits.abs().div_scalar(255.0);
    let is_flat = fall.clone().lower_elem(1e-5);
    let steep = fall.mask_fill(is_flat.clone(), 1.0);
    let mass = steep.clone().mul_scalar(-256.0).exp().neg().add_scalar(1.0);
    let geometric = (uniform.clone() * mass).neg().log1p().neg() / steep;
    let from_end = geometric
        .mask_where(is_flat, uniform.mul_scalar(256.0))
        .floor()
        .clamp(0.0, 255.0);
    let rising = from_end.clone().neg().add_scalar(255.0);
    from_end.mask_where(is_rising, rising).div_scalar(255.0)
}
