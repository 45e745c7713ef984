//! The rate of training, without the step in which kernels are compiled.

use crate::process::progress::StepRate;

/// Counts the steps that a process makes of an epoch. On a device that compiles kernels and tries which are fastest,
/// the first step of the process takes many times as long as any other, and counts in no rate.
#[derive(Clone, Debug)]
pub(crate) struct StepClock {
    /// Whether the process's first step is still to come, and is to be left out.
    awaits_first_step: bool,
    /// Seconds into the epoch at which the step that does not count ended, where this epoch has it.
    first_step_seconds: Option<f64>,
    /// Seconds of the epoch that belong to no step.
    left_out: f64,
    /// Of the epoch, without the one that does not count.
    steps: usize,
    images: usize,
}

impl StepClock {
    /// For a process that has made no step yet.
    pub(crate) fn new(device_compiles: bool) -> Self {
        Self {
            awaits_first_step: device_compiles,
            first_step_seconds: None,
            left_out: 0.0,
            steps: 0,
            images: 0,
        }
    }

    /// Forgets the epoch before.
    pub(crate) fn epoch_begins(&mut self) {
        *self = Self::new(self.awaits_first_step);
    }

    /// Whether the next step to end is the one that does not count; the device is to have finished it before it ends.
    pub(crate) fn awaits_first_step(&self) -> bool {
        self.awaits_first_step
    }

    /// A step of so many images is done, so many seconds after the epoch began. Gives its seconds where it does not count.
    pub(crate) fn step_ends(&mut self, images: usize, seconds: f64) -> Option<f64> {
        if self.awaits_first_step {
            self.awaits_first_step = false;
            self.first_step_seconds = Some(seconds);
            return Some(seconds);
        }
        self.steps += 1;
        self.images += images;
        None
    }

    /// So many seconds since the last step belong to none: pictures were drawn.
    pub(crate) fn leaves_out(&mut self, seconds: f64) {
        self.left_out += seconds;
    }

    /// Seconds of the step that does not count, where this epoch has it.
    pub(crate) fn first_step_seconds(&self) -> Option<f64> {
        self.first_step_seconds
    }

    /// The rate of the steps that count, so many seconds after the epoch began; none where there is none.
    pub(crate) fn rate(&self, seconds: f64) -> Option<StepRate> {
        let seconds = seconds - self.first_step_seconds.unwrap_or(0.0) - self.left_out;
        (self.steps > 0 && seconds > 0.0).then(|| StepRate {
            images_per_second: self.images as f64 / seconds,
            seconds_per_step: seconds / self.steps as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(images_per_second: f64, seconds_per_step: f64) -> Option<StepRate> {
        Some(StepRate {
            images_per_second,
            seconds_per_step,
        })
    }

    #[test]
    fn where_nothing_is_compiled_every_step_counts() {
        let mut clock = StepClock::new(false);
        clock.epoch_begins();
        assert_eq!(clock.rate(0.5), None);
        assert!(!clock.awaits_first_step());
        for step in 1..=4 {
            assert_eq!(clock.step_ends(25, f64::from(step)), None);
        }
        assert_eq!(clock.rate(5.0), rate(20.0, 1.25));
        assert_eq!(clock.first_step_seconds(), None);
    }

    #[test]
    fn the_first_step_of_the_process_is_left_out_once() {
        let mut clock = StepClock::new(true);
        clock.epoch_begins();
        assert!(clock.awaits_first_step());
        assert_eq!(clock.step_ends(25, 60.0), Some(60.0));
        assert_eq!((clock.rate(60.0), clock.rate(61.0)), (None, None));
        assert_eq!(clock.step_ends(25, 60.5), None);
        assert_eq!(clock.step_ends(25, 61.0), None);
        assert_eq!(clock.rate(61.0), rate(50.0, 0.5));
        assert_eq!(clock.first_step_seconds(), Some(60.0));
        // Neither do pictures that are drawn between steps.
        clock.leaves_out(3.0);
        assert_eq!(clock.rate(64.0), rate(50.0, 0.5));

        clock.epoch_begins();
        assert_eq!(clock.first_step_seconds(), None);
        assert_eq!(clock.step_ends(25, 0.5), None);
        assert_eq!(clock.rate(0.5), rate(50.0, 0.5));
    }

    #[test]
    fn an_epoch_without_a_step_leaves_the_first_to_the_next() {
        let mut clock = StepClock::new(true);
        clock.epoch_begins();
        clock.epoch_begins();
        assert_eq!(clock.step_ends(25, 9.0), Some(9.0));
    }
}
