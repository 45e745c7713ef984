//! Numbers that every form of the discretised likelihoods shares; without Burn, as the kernels are.

/// Half the width of a level on the scale from -1 to 1.
pub(super) const HALF_LEVEL: f64 = 1.0 / 255.0;
/// Log-scales below count as this one, with derivative 0.
pub(super) const SMALLEST_LOG_SCALE: f64 = -7.0;
/// Log-scales above count as this one, with derivative 0: in float32 the inverse of the next few scales would vanish.
pub(super) const LARGEST_LOG_SCALE: f64 = 64.0;
