//! What every distribution of a pixel's values tells of one value, and the values themselves.

use cubecl::prelude::*;

/// Half the width of a level on the scale from -1 to 1.
pub(crate) const HALF_LEVEL: f32 = 1.0 / 255.0;
/// Log-scales outside count as these, with derivative 0.
const SMALLEST_LOG_SCALE: f32 = -7.0;
const LARGEST_LOG_SCALE: f32 = 64.0;

/// What is known of one value of an image.
#[derive(CubeType)]
pub(crate) struct Known {
    /// From -1 to 1.
    pub(crate) signed: f32,
    /// -1 at the lowest level, 1 at the highest, else 0.
    pub(crate) edge: f32,
}

/// The logarithm of a value's probability, and its derivatives.
#[derive(CubeType)]
pub(crate) struct LogProbability {
    pub(crate) value: f32,
    /// By the distribution's mean; of the Bernoulli family by the logit.
    pub(crate) by_mean: f32,
    /// By the logarithm of its scale, where it has one.
    pub(crate) by_log_scale: f32,
}

/// A log-scale within its bounds.
#[derive(CubeType)]
pub(crate) struct BoundedScale {
    pub(crate) log_scale: f32,
    /// `exp(-log_scale)`
    pub(crate) inverse: f32,
    /// 1, or 0 where the bound holds it.
    pub(crate) is_free: f32,
}

/// The level of a value from 0 to 1.
#[cube]
pub(crate) fn known(value: f32) -> Known {
    let level = (value * 255.0f32).round();
    let of_highest = select(level == 255.0f32, 1.0f32, 0.0f32);
    Known {
        signed: (level + level - 255.0f32) / 255.0f32,
        edge: select(level == 0.0f32, -1.0f32, of_highest),
    }
}

#[cube]
pub(crate) fn bounded(log_scale: f32) -> BoundedScale {
    let is_below = log_scale < SMALLEST_LOG_SCALE;
    let is_above = log_scale > LARGEST_LOG_SCALE;
    let bounded = select(is_below, SMALLEST_LOG_SCALE, log_scale);
    let bounded = select(is_above, LARGEST_LOG_SCALE, bounded);
    BoundedScale {
        log_scale: bounded,
        inverse: (0.0f32 - bounded).exp(),
        is_free: select(is_below || is_above, 0.0f32, 1.0f32),
    }
}
