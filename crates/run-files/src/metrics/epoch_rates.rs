//! The learning rates of an epoch's steps, which a warm-up or a decay changes from step to step.

use serde::{Deserialize, Serialize};

/// Mean and last learning rate of the steps of an epoch that changed the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRates {
    steps: u64,
    mean: f64,
    last: f64,
}

impl EpochRates {
    /// Adds the rate of a step.
    pub fn add(&mut self, rate: f64) {
        self.steps += 1;
        // Steps with equal rates leave the mean at exactly that rate.
        self.mean += (rate - self.mean) / self.steps as f64;
        self.last = rate;
    }

    /// Whether there was no step.
    pub fn is_empty(&self) -> bool {
        self.steps == 0
    }

    /// The mean; NaN where there was no step.
    pub fn mean(&self) -> f64 {
        if self.is_empty() { f64::NAN } else { self.mean }
    }

    /// That of the last step; NaN where there was none.
    pub fn last(&self) -> f64 {
        if self.is_empty() { f64::NAN } else { self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_warm_up_is_in_its_middle_and_a_constant_stays_what_it_is() {
        let mut rates = EpochRates::default();
        assert!(rates.is_empty() && rates.mean().is_nan() && rates.last().is_nan());
        for step in 1..=6 {
            rates.add(0.001 * f64::from(step) / 6.0);
        }
        assert!((rates.mean() - 0.001 * 3.5 / 6.0).abs() < 1e-18);
        assert_eq!(rates.last(), 0.001);
        let mut constant = EpochRates::default();
        (0..1000).for_each(|_| constant.add(0.0003));
        assert_eq!((constant.mean(), constant.last()), (0.0003, 0.0003));
    }
}
