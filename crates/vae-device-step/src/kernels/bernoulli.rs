//! The Bernoulli family: cross-entropy, and the same made a distribution over the 256 levels. The formulas are those of `vae-core`.

use cubecl::prelude::*;

use super::log_probability::LogProbability;

/// log 256
const LOG_LEVELS: f32 = 5.545_177_4;
/// Below it, log(sinh(y) / y) and its derivative are series; above, they have their direct forms.
const SERIES_BELOW: f32 = 0.5;
/// log Z has the remainders of these shares of the logit.
const LARGE_SHARE: f32 = 128.0 / 255.0;
const SMALL_SHARE: f32 = 1.0 / 510.0;

/// Minus the cross-entropy of a value from 0 to 1.
#[cube]
pub(crate) fn bernoulli(pixel: f32, logit: f32) -> LogProbability {
    // exp of what is not positive: no overflow.
    let small = (0.0f32 - logit.abs()).exp();
    let above = select(logit >= 0.0f32, 1.0f32, small);
    LogProbability {
        value: logit * pixel - max_nan(logit, 0.0f32) - small.log1p(),
        by_mean: pixel - above / (1.0f32 + small),
        by_log_scale: 0.0f32,
    }
}

/// A function of y >= 0 and its derivative.
#[derive(CubeType)]
struct Remainder {
    value: f32,
    slope: f32,
}

/// log(sinh(y) / y) - y.
#[cube]
fn remainder(y: f32) -> Remainder {
    let square = y * y;
    // 1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775: the next term is below 1e-7 of the sum.
    let series = square * 2.137_779_9e-6f32;
    let series = square * (series - 2.645_502_6e-5f32);
    let series = square * (series + 3.527_336_9e-4f32);
    let series = square * (series - 5.555_555_6e-3f32);
    let series = square * (series + 1.666_666_7e-1f32);
    // Each coefficient times its power of y.
    let slopes = square * (10.0f32 * 2.137_779_9e-6f32);
    let slopes = square * (slopes - 8.0f32 * 2.645_502_6e-5f32);
    let slopes = square * (slopes + 6.0f32 * 3.527_336_9e-4f32);
    let slopes = square * (slopes - 4.0f32 * 5.555_555_6e-3f32);
    let slopes = y * (slopes + 2.0f32 * 1.666_666_7e-1f32);
    // Where it is not wanted, any number that does no harm.
    let is_small = y < SERIES_BELOW;
    let large = select(is_small, SERIES_BELOW, y);
    let twice = large + large;
    let direct = (0.0f32 - (0.0f32 - twice).exp()).log1p() - twice.ln();
    let direct_slope = 1.0f32 / large.tanh() - 1.0f32 / large;
    Remainder {
        value: select(is_small, series - y, direct),
        slope: select(is_small, slopes, direct_slope) - 1.0f32,
    }
}

/// p(k) proportional to exp(logit k / 255), of a value from 0 to 1 that is rounded to its level.
///
/// log Z = max(l, 0) + log 256 + r(128 a / 255) - r(a / 510) with a = |l| and the remainder r: no two large numbers are subtracted.
#[cube]
pub(crate) fn renormalised_bernoulli(pixel: f32, logit: f32) -> LogProbability {
    let share = (pixel * 255.0f32).round() / 255.0f32;
    let magnitude = logit.abs();
    let large = remainder(magnitude * LARGE_SHARE);
    let small = remainder(magnitude * SMALL_SHARE);
    // -1 / 2 at a logit of 0, so that the mean level is the middle one from both sides.
    let by_magnitude = LARGE_SHARE * large.slope - SMALL_SHARE * small.slope;
    let mean = select(
        logit >= 0.0f32,
        1.0f32 + by_magnitude,
        0.0f32 - by_magnitude,
    );
    let rest = large.value - small.value + LOG_LEVELS;
    LogProbability {
        value: logit * share - max_nan(logit, 0.0f32) - rest,
        by_mean: share - mean,
        by_log_scale: 0.0f32,
    }
}
