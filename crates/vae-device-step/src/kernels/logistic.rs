//! The probability of a grey level under a discretised logistic, and its derivatives: the formulas of `vae-core`'s one pass on flex.
//!
//! With w the distance of level and mean in scales, t the level's width in scales, u = exp(-w) and q = exp(-t / 2), every sigmoid and logarithm
//! follows from u and q, without a difference of what is nearly equal:
//!
//! ```text
//! far edge   b = w + t / 2,   exp(-b)   = u q
//! near edge  a = w - t / 2,   exp(-|a|) = u / q, or q / u where the level is around the mean
//! log p = -log((1 + exp(-b)) (1 + exp(-|a|))) - max(a, 0) + log(1 - q^2)
//! ```

use cubecl::prelude::*;

use super::log_probability::{HALF_LEVEL, Known, LogProbability, bounded};

/// The logarithm of the width.
const LOG_LEVEL: f32 = -4.848_116_4;
/// A number x so large that exp(-x) is hardly above the smallest normal one.
const FAR: f32 = 87.0;
/// Below it, exp(x) - 1 is summed as a series.
const SMALL: f32 = 0.35;

/// exp(x) - 1 of x <= 0, exact near 0 too.
#[cube]
fn exp_minus_one(x: f32) -> f32 {
    let series = 1.0f32 + x / 7.0f32;
    let series = 1.0f32 + x / 6.0f32 * series;
    let series = 1.0f32 + x / 5.0f32 * series;
    let series = 1.0f32 + x / 4.0f32 * series;
    let series = 1.0f32 + x / 3.0f32 * series;
    let series = x * (1.0f32 + x / 2.0f32 * series);
    select(x < 0.0f32 - SMALL, x.exp() - 1.0f32, series)
}

/// Of the level of a known value.
#[cube]
pub(crate) fn logistic(known: &Known, mean: f32, log_scale: f32) -> LogProbability {
    let signed = known.signed;
    let edge = known.edge;
    let scale = bounded(log_scale);
    let inverse = scale.inverse;
    let half_width = HALF_LEVEL * inverse;
    let signed_distance = (signed - mean) * inverse;
    let distance = signed_distance.abs();
    let far = distance + half_width;
    let near = distance - half_width;

    // exp(-distance), not so small that dividing by it overflows; it counts only where it is not.
    let u = (0.0f32 - select(distance > FAR, FAR, distance)).exp();
    let q_less_one = exp_minus_one(0.0f32 - half_width);
    let q = 1.0f32 + q_less_one;
    let is_outside = near >= 0.0f32;
    let of_far = u * q;
    let of_near = select(is_outside, u, q) / select(is_outside, q, u);
    let far_sum = 1.0f32 + of_far;
    let near_sum = 1.0f32 + of_near;
    let above_far = of_far / far_sum;
    let near_share = 1.0f32 / near_sum;
    let below_near = select(is_outside, near_share, of_near * near_share);

    // 1 - q^2 over the width: between 0.1 and 1, so that its logarithm is exact whatever the scale.
    let width = half_width + half_width;
    let mass = (0.0f32 - q_less_one) * (1.0f32 + q);

    // The side that counts at the lowest and the highest level: what lies beyond the far edge, or beyond the near one.
    let is_edge = edge != 0.0f32;
    let is_beyond_far = edge * signed_distance <= 0.0f32;
    let near_reach = select(near <= 0.0f32, 0.0f32, near);
    let edge_factor = select(is_beyond_far, 1.0f32 / far_sum, near_share);
    let inner_factor = mass / width / (far_sum * near_sum);
    let factor = select(is_edge, edge_factor, inner_factor);
    let edge_linear = select(is_beyond_far, 0.0f32, 0.0f32 - near_reach);
    let inner_linear = LOG_LEVEL - scale.log_scale - near_reach;
    let linear = select(is_edge, edge_linear, inner_linear);

    // A higher mean makes the lowest level less likely and the highest more; inside both edges move.
    let beyond = select(is_beyond_far, above_far, below_near);
    let away = select(signed_distance < 0.0f32, inverse, 0.0f32 - inverse);
    let by_width = width * (q * q) / mass;
    let inside = below_near * near - above_far * far - by_width;
    let edge_scale = select(is_beyond_far, 0.0f32 - above_far * far, below_near * near);
    LogProbability {
        // A NaN at the near edge would be lost where it is not looked at.
        value: factor.ln() + linear + near * 0.0f32,
        by_mean: select(
            is_edge,
            edge * inverse * beyond,
            (above_far - below_near) * away,
        ),
        by_log_scale: scale.is_free * select(is_edge, edge_scale, inside),
    }
}
