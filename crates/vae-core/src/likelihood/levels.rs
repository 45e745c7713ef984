//! Grey levels, and functions in forms that stay exact.

use burn::prelude::*;

pub(super) use super::level_bounds::{HALF_LEVEL, LARGEST_LOG_SCALE, SMALLEST_LOG_SCALE};

/// The nearest grey level of values in \[0, 1\], as a number from 0 to 255.
pub(super) fn levels<const D: usize>(images: Tensor<D>) -> Tensor<D> {
    images.mul_scalar(255.0).round()
}

/// Grey levels on the scale from -1 to 1: (2 k - 255) / 255, rounded once.
pub(super) fn to_signed<const D: usize>(levels: Tensor<D>) -> Tensor<D> {
    levels.mul_scalar(2.0).sub_scalar(255.0).div_scalar(255.0)
}

/// The level that a value on the scale from -1 to 1 rounds to, on that scale.
pub(super) fn round_to_level<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    let levels = values
        .add_scalar(1.0)
        .mul_scalar(127.5)
        .add_scalar(0.5)
        .floor();
    to_signed(levels.clamp(0.0, 255.0))
}

/// From the scale from -1 to 1 to that from 0 to 1.
pub(super) fn to_unit_interval<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    values.add_scalar(1.0).mul_scalar(0.5)
}

/// Levels on the scale from -1 to 1 as k / 255, rounded once.
pub(super) fn levels_to_unit_interval<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    values
        .add_scalar(1.0)
        .mul_scalar(127.5)
        .round()
        .div_scalar(255.0)
}

/// The log-scale within its bounds, and `exp(-log_scale)`.
pub(super) fn inverse_scale<const D: usize>(log_scale: Tensor<D>) -> Tensor<D> {
    // Not `clamp`, whose derivative at a bound is the backend's choice.
    let too_small = log_scale.clone().lower_elem(SMALLEST_LOG_SCALE);
    let too_large = log_scale.clone().greater_elem(LARGEST_LOG_SCALE);
    log_scale
        .mask_fill(too_small, SMALLEST_LOG_SCALE)
        .mask_fill(too_large, LARGEST_LOG_SCALE)
        .neg()
        .exp()
}

/// log(1 + exp(x)), with derivative 1/2 at 0.
pub(super) fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let magnitude = x.clone().abs();
    (x + magnitude.clone()).mul_scalar(0.5) + magnitude.neg().exp().log1p()
}

/// log(1 - exp(-t)) of t > 0: log tanh(t / 2) + log(1 + exp(-t)), which loses nothing near 0.
pub(super) fn log_one_minus_exp<const D: usize>(t: Tensor<D>) -> Tensor<D> {
    t.clone().mul_scalar(0.5).tanh().log() + t.neg().exp().log1p()
}
