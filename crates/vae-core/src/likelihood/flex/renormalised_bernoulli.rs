//! The renormalised Bernoulli distribution at some positions of an image: value, and derivatives in place of the logits.
//! `likelihood/renormalised_bernoulli.rs` has the formulas.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lane, Pixels};
use super::real::Real;
use crate::likelihood::sinh_series::{SERIES, SERIES_BELOW};

/// log(sinh(y) / y) - y of y >= 0, and its derivative.
#[inline(always)]
fn remainder<T: Real>(y: T) -> [T; 2] {
    let one = T::ONE;
    let bound = T::from_f64(SERIES_BELOW);
    let is_small = y < bound;

    let square = y * y;
    let (mut series, mut slope) = (T::ZERO, T::ZERO);
    for index in (0..SERIES.len()).rev() {
        series = (series + T::from_f64(SERIES[index])) * square;
        slope = slope * square + T::from_f64(2.0 * (index + 1) as f64 * SERIES[index]);
    }

    // log((1 - exp(-2 y)) / (2 y)), turned over so that no argument is below the smallest normal number.
    let large = if is_small { bound } else { y };
    let double = large + large;
    let e = (-(if double > T::FAR { T::FAR } else { double })).exp();
    let direct = -(double / (one - e)).ln();
    let direct_slope = (e + e) / (one - e) - one / large;

    if is_small {
        [series - y, slope * y - one]
    } else {
        [direct, direct_slope]
    }
}

/// Adds the negative logarithm of the probability of each position's colours to `nll`. Where `WITH_GRADIENT`, the logits,
/// `[colours, LANES]`, become its derivatives.
#[inline(always)]
pub(super) fn add_nll<T: Real, const WITH_GRADIENT: bool>(
    rows: &mut [Lane<T>],
    pixels: &Pixels<T>,
    nll: &mut Lane<T>,
) {
    let (widest, narrowest) = (T::from_f64(128.0 / 255.0), T::from_f64(1.0 / 510.0));
    let log_levels = T::from_f64(256f64.ln());
    for (logits, shares) in rows.iter_mut().zip(&pixels.share) {
        for lane in 0..LANES {
            let (logit, share) = (logits[lane], shares[lane]);
            let magnitude = logit.abs();
            let [wide, wide_slope] = remainder(magnitude * widest);
            let [narrow, narrow_slope] = remainder(magnitude * narrowest);
            let positive_part = if logit < T::ZERO { T::ZERO } else { logit };
            nll[lane] =
                nll[lane] + ((positive_part - logit * share) + ((wide - narrow) + log_levels));
            if WITH_GRADIENT {
                // Of log Z beyond max(l, 0), by |l|: between -1/2 and 0.
                let slope = wide_slope * widest - narrow_slope * narrowest;
                logits[lane] = if logit < T::ZERO {
                    -slope - share
                } else {
                    (T::ONE - share) + slope
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Value and derivative in float64 from the sum over the levels.
    fn by_definition(logit: f64, level: usize) -> [f64; 2] {
        let most = logit.max(0.0);
        let weights = (0..256).map(|k| (logit * k as f64 / 255.0 - most).exp());
        let (sum, mean) = weights
            .enumerate()
            .fold((0.0, 0.0), |(sum, mean), (k, weight)| {
                (sum + weight, mean + weight * k as f64 / 255.0)
            });
        let share = level as f64 / 255.0;
        [most + sum.ln() - logit * share, mean / sum - share]
    }

    fn found<T: Real>(logit: T, level: usize) -> [T; 2] {
        let mut pixels = Pixels::new(1);
        pixels.set(0, 0, T::from_f64(level as f64 / 255.0));
        let (mut rows, mut nll) = ([[T::ZERO; LANES]], [T::ZERO; LANES]);
        rows[0][0] = logit;
        add_nll::<T, true>(&mut rows, &pixels, &mut nll);
        [nll[0], rows[0][0]]
    }

    #[test]
    fn value_and_derivative_are_those_of_the_sum_over_levels() {
        let magnitudes = [
            0.0, 1e-6, 0.3, 0.99, 1.0, 7.0, 60.0, 254.9, 255.1, 900.0, 5e4,
        ];
        for logit in magnitudes
            .iter()
            .flat_map(|magnitude| [*magnitude, -magnitude])
        {
            for level in [0, 1, 100, 254, 255] {
                let expected = by_definition(logit, level);
                let [value, slope] = found(logit, level);
                assert!(
                    (value - expected[0]).abs() <= 1e-12 * (1.0 + logit.abs()),
                    "{logit} {level}"
                );
                assert!(
                    (slope - expected[1]).abs() <= 1e-13,
                    "{logit} {level}: {slope} {expected:?}"
                );
                let single = f64::from(logit as f32);
                let expected = by_definition(single, level);
                let [value, slope] = found(logit as f32, level).map(f64::from);
                assert!(
                    (value - expected[0]).abs() <= 1e-6 * (1.0 + logit.abs()),
                    "{logit} {level}"
                );
                assert!(
                    (slope - expected[1]).abs() <= 3e-7,
                    "{logit} {level}: {slope} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn a_logit_that_is_no_number_has_no_likelihood() {
        assert!(found(f32::NAN, 3).iter().all(|value| value.is_nan()));
        assert!(!found(f32::INFINITY, 255)[0].is_finite());
    }
}
