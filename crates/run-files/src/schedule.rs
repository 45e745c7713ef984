//! What becomes of the learning rate, and when training stops.

use serde::{Deserialize, Serialize};

use crate::settings::{RateSchedule, Settings};

/// The state of the learning rate and of early stopping; a part of every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The settings' learning rate when the run began, or was last given another one.
    pub initial_learning_rate: f64,
    /// The present epoch's learning rate, before the settings' warm-up and decay per step.
    pub learning_rate: f64,
    /// The lowest validation loss so far, in nats an image, and its epoch; none before the first finite one.
    pub best: Option<(f64, u32)>,
    /// Epochs since the best one, or since the last halving.
    pub epochs_without_better: u32,
    /// The validation loss that the next improvement is measured from.
    pub stopping_reference: Option<f64>,
    /// Epochs since the last improvement that counts.
    pub epochs_without_improvement: u32,
}

/// What an epoch's validation loss led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is the lowest so far.
    pub is_best: bool,
    /// The learning rate was halved.
    pub halved: bool,
    /// Training should stop.
    pub stop: bool,
}

impl Schedule {
    /// Before the first epoch.
    pub fn new(settings: &Settings) -> Self {
        Self {
            initial_learning_rate: settings.learning_rate,
            learning_rate: settings.learning_rate,
            best: None,
            epochs_without_better: 0,
            stopping_reference: None,
            epochs_without_improvement: 0,
        }
    }

    /// Takes the learning rate of the settings where it has been changed, and forgets the halvings of the old one; returns whether it has
    /// been. A cosine goes on where it stands after `epochs_done` epochs, with the settings' rates and length.
    pub fn adopt_settings(&mut self, settings: &Settings, epochs_done: u32) -> bool {
        let changed = settings.learning_rate != self.initial_learning_rate;
        if changed {
            self.initial_learning_rate = settings.learning_rate;
            self.learning_rate = settings.learning_rate;
        }
        if settings.schedule == RateSchedule::Cosine {
            self.learning_rate = self.cosine(settings, epochs_done);
        }
        changed
    }

    /// The learning rate that a run which diverged should go on with, as a value of the settings: a tenth of the present one,
    /// not of the one that halving has left behind; and none that the settings would refuse.
    pub fn smaller_rate(&self, settings: &Settings) -> f64 {
        let present = match settings.schedule {
            RateSchedule::Plateau => self.learning_rate,
            // The settings' rate is what the whole curve is multiplied with.
            RateSchedule::Cosine => self.initial_learning_rate,
        };
        (present / 10.0).max(settings.minimum_learning_rate)
    }

    /// The learning rate of one step, counted from 0 over the whole run: Keras' `lr / (1 + decay * step)`, times
    /// `(step + 1) / warmup_steps` before the warm-up's last step.
    pub fn learning_rate_at(&self, settings: &Settings, step: u64) -> f64 {
        let rate = self.learning_rate / (1.0 + settings.decay * step as f64);
        if step < settings.warmup_steps {
            rate * ((step + 1) as f64 / settings.warmup_steps as f64)
        } else {
            rate
        }
    }

    /// The rate of the epoch after `epoch` of them: `minimum + (initial - minimum) (1 + cos(pi epoch / epochs)) / 2`.
    fn cosine(&self, settings: &Settings, epoch: u32) -> f64 {
        if epoch == 0 {
            // The formula would round.
            return self.initial_learning_rate;
        }
        let minimum = settings.minimum_learning_rate;
        let done = f64::from(epoch) / f64::from(settings.epochs);
        let share = (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) / 2.0;
        minimum + (self.initial_learning_rate - minimum) * share
    }

    /// Takes in an epoch's validation loss, in nats an image. A loss that is not a number is no improvement.
    pub fn epoch_ended(&mut self, settings: &Settings, epoch: u32, valid_loss: f64) -> Verdict {
        let is_best = self.best.is_none_or(|(best, _)| valid_loss < best) && valid_loss.is_finite();
        let mut halved = false;
        if is_best {
            self.best = Some((valid_loss, epoch));
            self.epochs_without_better = 0;
        } else {
            self.epochs_without_better = self.epochs_without_better.saturating_add(1);
            if settings.schedule == RateSchedule::Plateau
                && self.epochs_without_better >= settings.halving_patience
            {
                let next = (self.learning_rate / 2.0).max(settings.minimum_learning_rate);
                halved = next < self.learning_rate;
                self.learning_rate = next.min(self.learning_rate);
                self.epochs_without_better = 0;
            }
        }

        if settings.schedule == RateSchedule::Cosine {
            self.learning_rate = self.cosine(settings, epoch);
        }

        let least = settings.stopping_minimum_improvement;
        let counts = self
            .stopping_reference
            .is_none_or(|reference| valid_loss < reference - least);
        if counts && valid_loss.is_finite() {
            self.stopping_reference = Some(valid_loss);
            self.epochs_without_improvement = 0;
        } else {
            self.epochs_without_improvement = self.epochs_without_improvement.saturating_add(1);
        }
        Verdict {
            is_best,
            halved,
            stop: self.epochs_without_improvement >= settings.stopping_patience,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(losses: impl IntoIterator<Item = f64>) -> (Schedule, Vec<Verdict>) {
        let settings = Settings::default();
        let mut schedule = Schedule::new(&settings);
        let verdicts = (1..)
            .zip(losses)
            .map(|(epoch, loss)| schedule.epoch_ended(&settings, epoch, loss))
            .collect();
        (schedule, verdicts)
    }

    #[test]
    fn twenty_five_epochs_without_a_better_loss_halve_the_learning_rate() {
        let (schedule, verdicts) = run([1800.0].into_iter().chain([1800.0; 25]));
        assert_eq!(verdicts.iter().position(|verdict| verdict.halved), Some(25));
        assert_eq!(schedule.learning_rate, 0.0005);
        let (schedule, verdicts) = run([1800.0].into_iter().chain([1800.0; 24]).chain([1799.99]));
        assert!(!verdicts.iter().any(|verdict| verdict.halved));
        assert_eq!(schedule.best, Some((1799.99, 26)));
    }

    #[test]
    fn fifty_epochs_without_an_improvement_of_a_tenth_stop_training() {
        // Ever better, but by 0.001 an epoch: better for the halving, no improvement for the stopping.
        let (schedule, verdicts) = run((0..=50).map(|epoch| 1800.0 - 0.001 * epoch as f64));
        assert_eq!(verdicts.iter().position(|verdict| verdict.stop), Some(50));
        assert_eq!(schedule.learning_rate, 0.001);
        let (_, verdicts) = run((0..=500).map(|epoch| 1800.0 - 0.003 * epoch as f64));
        assert!(
            !verdicts.iter().any(|verdict| verdict.stop),
            "small gains add up"
        );
    }

    #[test]
    fn the_learning_rate_has_a_floor() {
        let settings = Settings {
            stopping_patience: 10_000,
            ..Settings::default()
        };
        let mut schedule = Schedule::new(&settings);
        for epoch in 1..=1000 {
            schedule.epoch_ended(&settings, epoch, 1800.0);
        }
        assert_eq!(schedule.learning_rate, 1e-6);
    }

    #[test]
    fn another_learning_rate_of_the_settings_replaces_the_halved_one() {
        let (mut schedule, _) = run([1800.0; 30]);
        assert_eq!(schedule.learning_rate, 0.0005);
        assert!(!schedule.adopt_settings(&Settings::default(), 30));
        assert_eq!(schedule.learning_rate, 0.0005, "nothing changed");
        let settings = Settings {
            learning_rate: 0.002,
            ..Settings::default()
        };
        assert!(schedule.adopt_settings(&settings, 30));
        assert_eq!(schedule.learning_rate, 0.002);
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_never_best() {
        let (schedule, verdicts) = run([f64::NAN, f64::INFINITY, 1800.0, f64::NAN]);
        let best: Vec<bool> = verdicts.iter().map(|verdict| verdict.is_best).collect();
        assert_eq!(best, [false, false, true, false]);
        assert_eq!(schedule.best, Some((1800.0, 3)));
    }

    #[test]
    fn a_cosine_falls_from_the_rate_to_the_minimum_whatever_the_losses() {
        let settings = Settings {
            schedule: RateSchedule::Cosine,
            learning_rate: 0.002,
            minimum_learning_rate: 0.001,
            epochs: 4,
            ..Settings::default()
        };
        let mut schedule = Schedule::new(&settings);
        let mut rates = vec![schedule.learning_rate];
        for epoch in 1..=4 {
            assert!(!schedule.epoch_ended(&settings, epoch, 1800.0).halved);
            rates.push(schedule.learning_rate);
        }
        // cos(pi / 4) = sqrt(1 / 2).
        let quarter = 0.0005 * 0.5f64.sqrt();
        let expected = [0.002, 0.0015 + quarter, 0.0015, 0.0015 - quarter, 0.001];
        for (found, expected) in rates.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{rates:?}");
        }
    }

    #[test]
    fn a_cosine_that_is_made_longer_or_lower_goes_on_along_its_new_curve() {
        let of = |epochs, learning_rate| Settings {
            schedule: RateSchedule::Cosine,
            minimum_learning_rate: 0.0,
            learning_rate,
            epochs,
            ..Settings::default()
        };
        let (short, long) = (of(4, 0.001), of(8, 0.001));
        let mut schedule = Schedule::new(&short);
        for epoch in 1..=4 {
            schedule.epoch_ended(&short, epoch, 1800.0);
        }
        assert!(schedule.learning_rate < 1e-18);
        // Half of eight epochs are done: half of the rate is left.
        assert!(!schedule.adopt_settings(&long, 4));
        assert!((schedule.learning_rate - 0.0005).abs() < 1e-15);
        // A tenth of the rate, late in the run: a tenth of what is left.
        assert!(schedule.adopt_settings(&of(8, 0.0001), 4));
        assert!((schedule.learning_rate - 0.00005).abs() < 1e-15);
        // Nothing changed, to the bit; before the first epoch too.
        let before = schedule.clone();
        schedule.adopt_settings(&of(8, 0.0001), 4);
        assert_eq!(schedule, before);
        let mut fresh = Schedule::new(&short);
        fresh.adopt_settings(&short, 0);
        assert_eq!(fresh, Schedule::new(&short));
    }

    #[test]
    fn the_rate_after_a_divergence_is_a_tenth_of_the_present_one() {
        let settings = Settings::default();
        let (schedule, _) = run([1800.0; 102]);
        assert_eq!(schedule.learning_rate, 0.0000625);
        assert_eq!(schedule.smaller_rate(&settings), 0.00000625);
        let lowest = Settings {
            minimum_learning_rate: 0.00005,
            ..settings
        };
        assert_eq!(schedule.smaller_rate(&lowest), 0.00005);
    }

    #[test]
    fn the_warm_up_rises_in_equal_steps_and_ends() {
        let settings = Settings {
            warmup_steps: 4,
            ..Settings::default()
        };
        let schedule = Schedule::new(&settings);
        let rates = [0, 1, 2, 3, 4, 1000].map(|step| schedule.learning_rate_at(&settings, step));
        assert_eq!(rates, [0.00025, 0.0005, 0.00075, 0.001, 0.001, 0.001]);
    }

    #[test]
    fn decay_is_that_of_keras() {
        let settings = Settings {
            decay: 0.01,
            ..Settings::default()
        };
        let schedule = Schedule::new(&settings);
        assert_eq!(schedule.learning_rate_at(&settings, 0), 0.001);
        assert_eq!(schedule.learning_rate_at(&settings, 100), 0.0005);
    }
}
