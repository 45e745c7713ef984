//! Discretised Gaussian distributions.

use burn::prelude::*;

use super::levels::{
    HALF_LEVEL, inverse_scale, levels, log_one_minus_exp, round_to_level, to_signed,
};
use super::reduction::per_image;

/// 1 / sqrt(2)
const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// A level that is narrower than this, in deviations and times one plus its distance, takes a series.
const NARROW: f64 = 0.3;

/// Coefficients of the logarithm of the complementary error function, times exp(x^2), in t = 1 / (1 + x / 2): the
/// classical Chebyshev fit, with a fractional error of 1.2e-7 everywhere.
const COMPLEMENTARY_ERROR: [f64; 10] = [
    -1.265_512_23,
    1.000_023_68,
    0.374_091_96,
    0.096_784_18,
    -0.186_288_06,
    0.278_868_07,
    -1.135_203_98,
    1.488_515_87,
    -0.822_152_23,
    0.170_872_77,
];

/// Negative log-probability of each image, `[batch]`, from mean and log standard deviation of every value.
pub(super) fn nll(mean: Tensor<4>, log_scale: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
    per_image(log_probability(levels(images), mean, log_scale)).neg()
}

/// Log-probability of each level under a Gaussian.
///
/// By symmetry only the upper tail is looked at. A narrow level takes the midpoint rule with its corrections by Hermite
/// polynomials, one that covers the mean a sum of two positive error functions, one in the tail the two tail
/// probabilities' logarithms. Each form is given harmless numbers where it is not wanted: an infinite value that is masked
/// away would still spoil the gradient.
fn log_probability(levels: Tensor<4>, mean: Tensor<4>, log_scale: Tensor<4>) -> Tensor<4> {
    let (lowest, highest) = (
        levels.clone().equal_elem(0.0),
        levels.clone().equal_elem(255.0),
    );
    let inverse = inverse_scale(log_scale);
    let centred = to_signed(levels) - mean;
    let distance = centred.clone().abs();
    let near = inverse.clone() * distance.clone().sub_scalar(HALF_LEVEL);
    let far = inverse.clone() * distance.clone().add_scalar(HALF_LEVEL);
    let half_width = inverse.clone().mul_scalar(HALF_LEVEL);
    let deviations = inverse.clone() * distance;

    let is_narrow = (half_width.clone() * deviations.clone().add_scalar(1.0)).lower_elem(NARROW);
    let is_around = near
        .clone()
        .lower_equal_elem(0.0)
        .bool_and(is_narrow.clone().bool_not());
    let is_tail = is_narrow.clone().bool_or(is_around.clone()).bool_not();

    let tail = {
        let is_elsewhere = is_tail.bool_not();
        let from = log_upper_tail(near.clone().mask_fill(is_elsewhere.clone(), 1.0));
        let to = log_upper_tail(far.clone().mask_fill(is_elsewhere, 2.0));
        from.clone() + log_one_minus_exp(from - to)
    };
    let around = {
        let is_elsewhere = is_around.clone().bool_not();
        let below = near.mask_fill(is_elsewhere.clone(), -1.0).neg();
        let above = far.mask_fill(is_elsewhere, 1.0);
        let both = below.mul_scalar(SQRT_HALF).erf() + above.mul_scalar(SQRT_HALF).erf();
        both.mul_scalar(0.5).log()
    };
    let narrow = {
        let is_elsewhere = is_narrow.clone().bool_not();
        narrow(
            half_width.mask_fill(is_elsewhere.clone(), 0.1 * NARROW),
            deviations.mask_fill(is_elsewhere, 1.0),
        )
    };
    let inside = tail
        .mask_where(is_around, around)
        .mask_where(is_narrow, narrow);
    let below = log_tail(inverse.clone() * centred.clone().add_scalar(HALF_LEVEL).neg());
    let above = log_tail(inverse * centred.sub_scalar(HALF_LEVEL));
    inside.mask_where(lowest, below).mask_where(highest, above)
}

/// Logarithm of the mass within `half_width` of `deviations`, both in standard deviations.
fn narrow(half_width: Tensor<4>, deviations: Tensor<4>) -> Tensor<4> {
    let (h2, m2) = (half_width.clone().square(), deviations.square());
    let second = m2.clone().sub_scalar(1.0).mul_scalar(1.0 / 6.0);
    let fourth = (m2.clone() * m2.clone().sub_scalar(6.0))
        .add_scalar(3.0)
        .mul_scalar(1.0 / 120.0);
    let sixth = ((m2.clone().sub_scalar(15.0) * m2.clone()).add_scalar(45.0) * m2.clone())
        .sub_scalar(15.0)
        .mul_scalar(1.0 / 5040.0);
    let corrections = ((sixth * h2.clone() + fourth) * h2.clone() + second) * h2;
    let log_density = m2
        .mul_scalar(-0.5)
        .sub_scalar(0.5 * (2.0 * std::f64::consts::PI).ln());
    log_density + half_width.mul_scalar(2.0).log() + corrections.log1p()
}

/// Logarithm of the standard normal's mass above z.
fn log_tail(z: Tensor<4>) -> Tensor<4> {
    let is_upper = z.clone().greater_equal_elem(0.0);
    let upper = log_upper_tail(z.clone().mask_fill(is_upper.clone().bool_not(), 0.0));
    let depth = z
        .mask_fill(is_upper.clone(), -1.0)
        .neg()
        .mul_scalar(SQRT_HALF);
    let lower = depth.erf().add_scalar(1.0).mul_scalar(0.5).log();
    lower.mask_where(is_upper, upper)
}

/// The same for z >= 0.
fn log_upper_tail(z: Tensor<4>) -> Tensor<4> {
    let t = z
        .clone()
        .mul_scalar(0.5 * SQRT_HALF)
        .add_scalar(1.0)
        .recip();
    let fit = COMPLEMENTARY_ERROR
        .iter()
        .rev()
        .fold(t.zeros_like(), |sum, coefficient| {
            (sum * t.clone()).add_scalar(*coefficient)
        });
    z.square().mul_scalar(-0.5) + t.log() + fit.sub_scalar(std::f64::consts::LN_2)
}

/// A draw, rounded to its level, on the scale from -1 to 1.
pub(super) fn sample(mean: Tensor<4>, log_scale: Tensor<4>, normal: Tensor<4>) -> Tensor<4> {
    round_to_level(mean + normal / inverse_scale(log_scale))
}
