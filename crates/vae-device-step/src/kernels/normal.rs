//! The standard normal distribution.

use cubecl::prelude::*;

/// 1 / sqrt(2)
const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const LN_2: f32 = std::f32::consts::LN_2;
/// log sqrt(2 pi)
pub(crate) const LOG_ROOT: f32 = 0.918_938_5;

/// The logarithm of the standard normal's mass above z >= 0, plus z^2 / 2: the classical Chebyshev fit, with a fractional error of 1.2e-7 everywhere.
#[cube]
pub(crate) fn scaled_upper_tail(z: f32) -> f32 {
    let t = 1.0f32 / (1.0f32 + z * (0.5f32 * SQRT_HALF));
    let fit = t * 0.170_872_77f32;
    let fit = t * (fit - 0.822_152_23f32);
    let fit = t * (fit + 1.488_515_9f32);
    let fit = t * (fit - 1.135_204f32);
    let fit = t * (fit + 0.278_868_07f32);
    let fit = t * (fit - 0.186_288_06f32);
    let fit = t * (fit + 0.096_784_18f32);
    let fit = t * (fit + 0.374_091_96f32);
    let fit = t * (fit + 1.000_023_7f32);
    t.ln() + (fit - 1.265_512_2f32 - LN_2)
}

/// The standard normal's mass between 0 and z >= 0.
#[cube]
pub(crate) fn mass_from_mean(z: f32) -> f32 {
    0.5f32 - (scaled_upper_tail(z) - 0.5f32 * z * z).exp()
}

/// The mass below x.
#[cube]
pub(crate) fn mass_below(x: f32) -> f32 {
    let of_half = mass_from_mean(x.abs());
    0.5f32 + select(x < 0.0f32, 0.0f32 - of_half, of_half)
}

#[cube]
pub(crate) fn density(x: f32) -> f32 {
    (0.0f32 - LOG_ROOT - 0.5f32 * x * x).exp()
}
