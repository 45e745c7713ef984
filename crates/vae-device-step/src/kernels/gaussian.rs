//! The probability of a grey level under a discretised Gaussian, and its derivatives.
//!
//! The forms are those of `vae-core`: a narrow level takes the midpoint rule with its corrections, one that covers the mean a sum of two error functions, one
//! in the tail the two tail probabilities. A derivative is the density at an edge over the level's probability; both may vanish, so the quotient is the
//! exponential of what is left of their logarithms when the squares have been taken off.

use cubecl::prelude::*;

use super::log_probability::{HALF_LEVEL, Known, LogProbability, bounded};
use super::normal::{LOG_ROOT, mass_from_mean, scaled_upper_tail};

/// A level that is narrower than this, in deviations and times one plus its distance, takes a series.
const NARROW: f32 = 0.3;
/// log(1 - exp(-t)) of t > 0.
#[cube]
fn log_one_minus_exp(t: f32) -> f32 {
    (0.5f32 * t).tanh().ln() + (0.0f32 - t).exp().log1p()
}

/// The logarithm of a probability, and the densities at the level's near and far edge over it.
#[derive(CubeType)]
struct Mass {
    log: f32,
    near_share: f32,
    far_share: f32,
}

/// The standard normal's mass above z, which is the near edge.
#[cube]
fn upper_tail(z: f32) -> Mass {
    let is_upper = z >= 0.0f32;
    let upper = scaled_upper_tail(select(is_upper, z, 0.0f32));
    let depth = select(is_upper, 0.0f32, 0.0f32 - z);
    let lower = (0.5f32 + mass_from_mean(depth)).ln();
    let square = 0.5f32 * z * z;
    let log = select(is_upper, upper - square, lower);
    Mass {
        log,
        near_share: (0.0f32 - LOG_ROOT - select(is_upper, upper, lower + square)).exp(),
        far_share: 0.0f32,
    }
}

/// The mass between two edges `half_width` from `deviations`, where it is not narrow.
#[cube]
fn between(near: f32, far: f32, deviations: f32, half_width: f32) -> Mass {
    let is_around = near <= 0.0f32;
    let below = mass_from_mean(select(is_around, 0.0f32 - near, 1.0f32));
    let above = mass_from_mean(select(is_around, far, 1.0f32));
    let around = (below + above).ln();
    let from = scaled_upper_tail(select(is_around, 1.0f32, near));
    let to = scaled_upper_tail(select(is_around, 2.0f32, far));
    // Half the difference of the squares, without them.
    let squares = 2.0f32 * deviations * half_width;
    let fall = select(is_around, 1.0f32, squares + from - to);
    let scaled = from + log_one_minus_exp(fall);
    let square = 0.5f32 * near * near;
    let scaled = select(is_around, around + square, scaled);
    let near_share = (0.0f32 - LOG_ROOT - scaled).exp();
    Mass {
        log: scaled - square,
        near_share,
        far_share: near_share * (0.0f32 - squares).exp(),
    }
}

/// The logarithm of a narrow level's mass, and its derivatives by both arguments, the second one times it.
#[derive(CubeType)]
struct Narrow {
    log: f32,
    by_deviations: f32,
    by_log_half_width: f32,
}

#[cube]
fn narrow(deviations: f32, half_width: f32) -> Narrow {
    let m2 = deviations * deviations;
    let h2 = half_width * half_width;
    let second = (m2 - 1.0f32) / 6.0f32;
    let fourth = (m2 * (m2 - 6.0f32) + 3.0f32) / 120.0f32;
    let sixth = (((m2 - 15.0f32) * m2 + 45.0f32) * m2 - 15.0f32) / 5040.0f32;
    let corrections = h2 * (second + h2 * (fourth + h2 * sixth));
    let by_m2 = h2
        * (1.0f32 / 6.0f32
            + h2 * ((m2 - 3.0f32) / 60.0f32 + h2 * ((m2 * (m2 - 10.0f32) + 15.0f32) / 1680.0f32)));
    let by_h2 = second + h2 * (2.0f32 * fourth + h2 * (3.0f32 * sixth));
    let whole = 1.0f32 + corrections;
    Narrow {
        log: corrections.log1p() + (half_width + half_width).ln() - LOG_ROOT - 0.5f32 * m2,
        by_deviations: 2.0f32 * deviations * by_m2 / whole - deviations,
        by_log_half_width: 1.0f32 + 2.0f32 * h2 * by_h2 / whole,
    }
}

/// Of the level of a known value; the scale is the standard deviation.
#[cube]
pub(crate) fn gaussian(known: &Known, mean: f32, log_scale: f32) -> LogProbability {
    let scale = bounded(log_scale);
    let inverse = scale.inverse;
    let centred = known.signed - mean;
    let sign = select(centred < 0.0f32, -1.0f32, 1.0f32);
    let distance = centred.abs();
    let half_width = HALF_LEVEL * inverse;
    let deviations = inverse * distance;
    let near = inverse * (distance - HALF_LEVEL);
    let far = inverse * (distance + HALF_LEVEL);

    let is_narrow = half_width * (deviations + 1.0f32) < NARROW;
    let series = narrow(
        select(is_narrow, deviations, 1.0f32),
        select(is_narrow, half_width, 0.1f32 * NARROW),
    );
    let inside = between(
        select(is_narrow, 0.0f32, near),
        select(is_narrow, 2.0f32, far),
        select(is_narrow, 1.0f32, deviations),
        select(is_narrow, 1.0f32, half_width),
    );
    let log = select(is_narrow, series.log, inside.log);
    let by_deviations = select(
        is_narrow,
        series.by_deviations,
        inside.far_share - inside.near_share,
    );
    let of_edges = near * inside.near_share - far * inside.far_share;
    let of_series = 0.0f32 - deviations * series.by_deviations - series.by_log_half_width;
    let by_log_scale = select(is_narrow, of_series, of_edges);

    // The lowest level has all that is below it too, the highest all that is above.
    let edge = known.edge;
    let is_edge = edge != 0.0f32;
    let z = inverse * (edge * centred - HALF_LEVEL);
    let tail = upper_tail(z);
    LogProbability {
        value: select(is_edge, tail.log, log),
        by_mean: inverse
            * select(
                is_edge,
                edge * tail.near_share,
                0.0f32 - sign * by_deviations,
            ),
        by_log_scale: scale.is_free * select(is_edge, z * tail.near_share, by_log_scale),
    }
}
