//! The logarithm of a mean of exponentials, streamed: the importance-weighted bound (Burda et al. 2016).

/// `log(mean(exp(values)))` of values that arrive one by one.
///
/// With `log p(x, z) - log q(z given x)` of K draws of z from q it is the importance-weighted bound on log p(x); the mean of
/// the values, K = 1, is the ELBO with sampled KL divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogMeanExp {
    largest: f64,
    /// Of `exp(value - largest)`.
    sum: f64,
    count: u64,
}

impl Default for LogMeanExp {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMeanExp {
    /// Of no values.
    pub fn new() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            sum: 0.0,
            count: 0,
        }
    }

    /// Takes one value in. A NaN stays: the result is NaN from then on.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if value.is_nan() || self.sum.is_nan() {
            self.sum = f64::NAN;
        } else if value > self.largest {
            // No values yet, or only minus infinities: their sum is 0 and stays so.
            if self.largest > f64::NEG_INFINITY {
                self.sum *= (self.largest - value).exp();
            }
            self.sum += 1.0;
            self.largest = value;
        } else if value == f64::INFINITY {
            // The largest is infinite, too.
            self.sum += 1.0;
        } else if value > f64::NEG_INFINITY {
            self.sum += (value - self.largest).exp();
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The logarithm of the mean; NaN where there are no values, minus infinity where all are.
    pub fn value(&self) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        if self.largest == f64::NEG_INFINITY && self.sum == 0.0 {
            return f64::NEG_INFINITY;
        }
        self.largest + (self.sum / self.count as f64).ln()
    }
}

/// A mean with its standard error, over values that arrive one by one (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    count: u64,
    mean: f64,
    /// Sum of squared distances to the mean.
    squares: f64,
}

impl Mean {
    /// Of no values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one value in.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; NaN of no values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean }
    }

    /// Standard error of the mean over the values, with n - 1; none of fewer than two.
    pub fn standard_error(&self) -> Option<f64> {
        let count = self.count as f64;
        (self.count > 1).then(|| (self.squares / (count - 1.0) / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streamed(values: &[f64]) -> f64 {
        let mut bound = LogMeanExp::new();
        values.iter().for_each(|value| bound.add(*value));
        bound.value()
    }

    #[test]
    fn the_first_values_may_be_minus_infinity() {
        let infinite = f64::NEG_INFINITY;
        assert_eq!(streamed(&[infinite, infinite]), infinite);
        assert!((streamed(&[infinite, 3.0]) - (3.0 - 2f64.ln())).abs() < 1e-15);
        assert!((streamed(&[3.0, infinite]) - (3.0 - 2f64.ln())).abs() < 1e-15);
        assert!(streamed(&[]).is_nan() && streamed(&[1.0, f64::NAN, 2.0]).is_nan());
        assert_eq!(streamed(&[-infinite, -infinite, 3.0]), -infinite);
    }

    proptest! {
        #[test]
        fn it_is_the_largest_plus_the_mean_of_the_rest(values in prop::collection::vec(-9e3f64..9e3, 1..50)) {
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
            let expected = largest + (sum / values.len() as f64).ln();
            prop_assert!((streamed(&values) - expected).abs() <= 1e-11 * expected.abs().max(1.0));
        }

        #[test]
        fn the_standard_error_is_that_of_two_passes(values in prop::collection::vec(-1e3f64..1e3, 2..50)) {
            let mut mean = Mean::new();
            values.iter().for_each(|value| mean.add(*value));
            let count = values.len() as f64;
            let expected = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|value| (value - expected).powi(2)).sum::<f64>() / (count - 1.0);
            prop_assert!((mean.mean() - expected).abs() < 1e-10);
            let found = mean.standard_error().expect("two values or more");
            prop_assert!((found - (variance / count).sqrt()).abs() < 1e-9);
        }
    }
}
