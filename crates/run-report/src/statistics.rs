//! Mean, spread, and the difference of two means with its confidence interval.

use serde::Serialize;

use crate::student::student_quantile;

/// Mean and spread of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation, with `count - 1` below the root; none for a single value.
    pub standard_deviation: Option<f64>,
}

impl Estimate {
    /// Of these values; none where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self {
            count,
            mean,
            standard_deviation,
        })
    }
}

/// A difference of two means with Welch's confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WelchInterval {
    /// Probability with which such intervals hold the true difference.
    pub confidence: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Welch and Satterthwaite's degrees of freedom; none where neither group varies.
    pub degrees_of_freedom: Option<f64>,
}

impl WelchInterval {
    /// The interval of the mean of `later` minus the mean of `earlier`; none where either has a single value.
    ///
    /// ```text
    /// s^2 = v1 / n1 + v2 / n2,  half width = t(confidence, df) s,
    /// df = s^4 / ((v1 / n1)^2 / (n1 - 1) + (v2 / n2)^2 / (n2 - 1))
    /// ```
    ///
    /// # Panics
    /// If `confidence` is not strictly between 0 and 1.
    pub fn of(earlier: &Estimate, later: &Estimate, confidence: f64) -> Option<Self> {
        let variance_of_mean = |group: &Estimate| {
            let deviation = group.standard_deviation?;
            Some(deviation * deviation / group.count as f64)
        };
        let (first, second) = (variance_of_mean(earlier)?, variance_of_mean(later)?);
        let difference = later.mean - earlier.mean;
        let variance = first + second;
        // A run that ended with losses that are none.
        if !variance.is_finite() {
            return Some(Self {
                confidence,
                low: f64::NAN,
                high: f64::NAN,
                degrees_of_freedom: None,
            });
        }
        // Where nothing varies, the quotient below is 0 / 0 and the interval is the difference itself.
        if variance == 0.0 {
            return Some(Self {
                confidence,
                low: difference,
                high: difference,
                degrees_of_freedom: None,
            });
        }
        let share =
            |variance: f64, group: &Estimate| variance * variance / (group.count - 1) as f64;
        let degrees_of_freedom =
            variance * variance / (share(first, earlier) + share(second, later));
        let half_width =
            student_quantile(0.5 + 0.5 * confidence, degrees_of_freedom) * variance.sqrt();
        Some(Self {
            confidence,
            low: difference - half_width,
            high: difference + half_width,
            degrees_of_freedom: Some(degrees_of_freedom),
        })
    }

    /// Whether the interval holds zero: the two means cannot be told apart.
    pub fn contains_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: [f64; 3] = [81.2, 83.9, 80.1];
    const LATER: [f64; 4] = [87.4, 88.0, 91.5, 86.2];

    fn estimate(values: &[f64]) -> Estimate {
        Estimate::of(values).expect("there are values")
    }

    fn assert_close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-11 * expected.abs().max(1.0),
            "{found}, SciPy has {expected}"
        );
    }

    // python -c "import numpy; print(numpy.std([81.2, 83.9, 80.1], ddof=1), numpy.std([87.4, 88., 91.5, 86.2], ddof=1))"
    #[test]
    fn spreads_are_sample_standard_deviations() {
        assert_close(estimate(&EARLIER).mean, 81.73333333333333);
        let deviation = |values| estimate(values).standard_deviation.expect("several values");
        assert_close(deviation(&EARLIER), 1.9553345834750004);
        assert_close(deviation(&LATER), 2.2765104875664406);
        assert_eq!(estimate(&[3.0]).standard_deviation, None);
        assert_eq!(Estimate::of(&[]), None);
    }

    // python -c "from scipy.stats import ttest_ind; r = ttest_ind([81.2, 83.9, 80.1], [87.4, 88., 91.5, 86.2],
    // equal_var=False); print(r.df, r.confidence_interval(.95), r.confidence_interval(.99))"
    // which is for earlier minus later. SciPy 1.17.1.
    #[test]
    fn intervals_are_those_of_scipys_welch_test() {
        let interval = |confidence| {
            WelchInterval::of(&estimate(&EARLIER), &estimate(&LATER), confidence)
                .expect("several values")
        };
        let at_95 = interval(0.95);
        assert_close(
            at_95.degrees_of_freedom.expect("they vary"),
            4.815547367558922,
        );
        assert_close(at_95.low, 2.3727216561941535);
        assert_close(at_95.high, 10.71061167713916);
        assert!(!at_95.contains_zero());
        let at_99 = interval(0.99);
        assert_close(at_99.low, -0.051751390990140145);
        assert_close(at_99.high, 13.135084724323455);
        assert!(at_99.contains_zero());

        let overlapping =
            WelchInterval::of(&estimate(&[1.0, 2.0]), &estimate(&[1.4, 1.9, 2.7]), 0.95)
                .expect("several values");
        assert_close(overlapping.low, -2.0508929615062974);
        assert_close(overlapping.high, 3.0508929615062974);
        assert!(overlapping.contains_zero());
    }

    #[test]
    fn a_single_value_has_no_interval_and_equal_values_have_one_of_no_width() {
        assert_eq!(
            WelchInterval::of(&estimate(&[1.0]), &estimate(&LATER), 0.95),
            None
        );
        let interval = WelchInterval::of(&estimate(&[1.0, 1.0]), &estimate(&[3.0, 3.0]), 0.95)
            .expect("several values");
        assert_eq!((interval.low, interval.high), (2.0, 2.0));
    }

    #[test]
    fn a_run_without_a_score_gives_an_interval_that_says_nothing() {
        let of = |values: &[f64]| Estimate::of(values).unwrap();
        let interval = WelchInterval::of(&of(&[f64::NAN, 1.0]), &of(&[1.0, 2.0]), 0.95).unwrap();
        assert!(interval.low.is_nan() && interval.high.is_nan() && !interval.contains_zero());
    }
}
