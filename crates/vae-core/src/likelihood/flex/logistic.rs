//! Discretised logistics at some positions of an image: logarithm of a level's probability, and its derivatives.
//!
//! With w the distance of level and mean in scales, t the level's width in scales, u = exp(-w) and q = exp(-t / 2), every
//! sigmoid and logarithm of a level's probability follows from u, q and one logarithm more:
//!
//! ```text
//! far edge   b = w + t / 2,   exp(-b)   = u q
//! near edge  a = w - t / 2,   exp(-|a|) = u / q, or q / u where the level is around the mean
//! log p = -log((1 + exp(-b)) (1 + exp(-|a|))) - max(a, 0) + log(1 - q^2)
//! ```
//!
//! w takes the mean's side away, which the level's probability does not depend on; the lowest and the highest level, which
//! do, have one edge only, whichever of the two it is.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lane, Pixels};
use super::real::Real;
use crate::likelihood::level_bounds::{HALF_LEVEL, LARGEST_LOG_SCALE, SMALLEST_LOG_SCALE};

/// Logarithm of a level's probability, and its derivatives by mean and log-scale.
#[inline(always)]
pub(super) fn log_probability<T: Real>(signed: T, edge: T, mean: T, log_scale: T) -> [T; 3] {
    let (zero, one) = (T::ZERO, T::ONE);
    let (smallest, largest) = (
        T::from_f64(SMALLEST_LOG_SCALE),
        T::from_f64(LARGEST_LOG_SCALE),
    );
    let bounded = if log_scale < smallest {
        smallest
    } else {
        log_scale
    };
    let bounded = if bounded > largest { largest } else { bounded };
    let is_free = if log_scale < smallest { zero } else { one };
    let is_free = if log_scale > largest { zero } else { is_free };

    let inverse = (-bounded).exp();
    let half_width = T::from_f64(HALF_LEVEL) * inverse;
    let signed_distance = (signed - mean) * inverse;
    let distance = signed_distance.abs();
    let (far, near) = (distance + half_width, distance - half_width);

    // exp(-distance), not so small that dividing by it overflows; it counts only where it is not.
    let u = (-(if distance > T::FAR { T::FAR } else { distance })).exp();
    let q_less_one = (-half_width).exp_minus_one();
    let q = one + q_less_one;
    let is_outside = near >= zero;
    let (top, bottom) = if is_outside { (u, q) } else { (q, u) };
    let of_far = u * q; // exp(-far)
    let of_near = top / bottom; // exp(-|near|)
    let (far_sum, near_sum) = (one + of_far, one + of_near);
    let reciprocal = one / (far_sum * near_sum);
    let above_far = of_far * (reciprocal * near_sum); // sigmoid(-far)
    let near_share = reciprocal * far_sum; // 1 / (1 + exp(-|near|))
    let below_near = if is_outside {
        near_share
    } else {
        of_near * near_share
    }; // sigmoid(near)

    // 1 - q^2 over the width: between 0.1 and 1, so that its logarithm is exact whatever the scale.
    let width = half_width + half_width;
    let mass = -q_less_one * (one + q);
    let relative_mass = mass / width;

    // The side that counts at the lowest and the highest level: what lies beyond the far edge, or beyond the near one.
    let is_edge = edge != zero;
    let is_beyond_far = edge * signed_distance <= zero;
    let near_reach = if near <= zero { zero } else { near };
    let edge_factor = if is_beyond_far {
        reciprocal * near_sum
    } else {
        near_share
    };
    let factor = if is_edge {
        edge_factor
    } else {
        reciprocal * relative_mass
    };
    let edge_linear = if is_beyond_far { zero } else { -near_reach };
    let log_width = T::from_f64((2.0 * HALF_LEVEL).ln()) - bounded;
    let linear = if is_edge {
        edge_linear
    } else {
        log_width - near_reach
    };
    // A NaN at the near edge would be lost where it is not looked at.
    #[allow(clippy::eq_op)] // Zero, or a NaN that must not be hidden.
    let value = factor.ln() + linear + (near - near);

    // A higher mean makes the lowest level less likely and the highest more; inside both edges move.
    let beyond = if is_beyond_far { above_far } else { below_near };
    let away = if signed_distance < zero {
        inverse
    } else {
        -inverse
    };
    let by_mean = if is_edge {
        edge * inverse * beyond
    } else {
        (above_far - below_near) * away
    };

    let by_width = (width * (q * q)) / mass;
    let inside = below_near * near - above_far * far - by_width;
    let edge_scale = if is_beyond_far {
        -(above_far * far)
    } else {
        below_near * near
    };
    let by_log_scale = if is_edge { edge_scale } else { inside };
    [value, by_mean, is_free * by_log_scale]
}

/// Adds the negative logarithm of the probability of each position's colours to `nll`. Where `WITH_GRADIENT`, means and
/// log-scales, `[2 colours, LANES]`, become its derivatives.
#[inline(always)]
pub(super) fn add_nll<T: Real, const WITH_GRADIENT: bool>(
    rows: &mut [Lane<T>],
    pixels: &Pixels<T>,
    nll: &mut Lane<T>,
) {
    let (means, log_scales) = rows.split_at_mut(pixels.signed.len());
    for (colour, (means, log_scales)) in means.iter_mut().zip(log_scales).enumerate() {
        let (signed, edge) = (&pixels.signed[colour], &pixels.edge[colour]);
        for lane in 0..LANES {
            let [value, by_mean, by_log_scale] =
                log_probability(signed[lane], edge[lane], means[lane], log_scales[lane]);
            nll[lane] = nll[lane] - value;
            if WITH_GRADIENT {
                means[lane] = -by_mean;
                log_scales[lane] = -by_log_scale;
            }
        }
    }
}
