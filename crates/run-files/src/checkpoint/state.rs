//! What a run needs to go on, besides weights and moments.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::{EpochRates, MetricsLengths, TermSums};
use crate::schedule::{Schedule, Verdict};
use crate::step_guard::StepGuard;

/// A training state is a few thousand bytes.
pub(super) const LARGEST_STATE: u64 = 1 << 22;

/// What a run needs to go on, besides weights and moments. Everything random is a function of the step and the epoch,
/// so no generator's state is among it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// Completed epochs.
    pub epoch: u32,
    /// Steps since the run began, skipped ones among them.
    pub step: u64,
    /// Steps that changed the weights.
    pub updates: u64,
    /// Batches done of the epoch after the completed ones.
    pub batches: usize,
    /// Sums of the loss over those batches.
    pub sums: TermSums,
    /// Learning rates of their steps.
    #[serde(default, skip_serializing_if = "EpochRates::is_empty")]
    pub rates: EpochRates,
    /// Skipped steps, and what is needed to judge the next one.
    pub guard: StepGuard,
    /// Learning-rate halving and early stopping.
    pub schedule: Schedule,
    /// Where the checkpoint with the weights of the best epoch was written.
    pub best: Option<Position>,
    /// Lengths of the metric files after the last completed epoch, in bytes.
    pub metrics: MetricsLengths,
    /// The stopping rule has been met.
    pub stopped: bool,
}

/// Where in a run a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Completed epochs.
    pub epoch: u32,
    /// Batches done of the epoch after them.
    pub batches: usize,
}

impl Position {
    /// The name of the checkpoint's folder.
    pub fn folder_name(self) -> String {
        format!("epoch-{:04}-batch-{:05}", self.epoch, self.batches)
    }

    /// The position of a folder with such a name, and of no other spelling of it.
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let (epoch, batches) = name.strip_prefix("epoch-")?.split_once("-batch-")?;
        let position = Self {
            epoch: epoch.parse().ok()?,
            batches: batches.parse().ok()?,
        };
        (position.folder_name() == name).then_some(position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "epoch {}, batch {}", self.epoch, self.batches)
    }
}

impl TrainingState {
    /// Where the run stands.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            batches: self.batches,
        }
    }

    /// Completes an epoch, after which the schedule came to `verdict`.
    pub fn complete_epoch(&mut self, epoch: u32, verdict: Verdict) {
        self.epoch = epoch;
        self.batches = 0;
        self.sums = TermSums::default();
        self.rates = EpochRates::default();
        self.guard.skipped_in_epoch = 0;
        self.stopped = verdict.stop;
        if verdict.is_best {
            self.best = Some(self.position());
        }
    }

    /// Before the first step.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            epoch: 0,
            step: 0,
            updates: 0,
            batches: 0,
            sums: TermSums::default(),
            rates: EpochRates::default(),
            guard: StepGuard::default(),
            schedule,
            best: None,
            metrics: MetricsLengths::default(),
            stopped: false,
        }
    }

    /// Reads a state.
    ///
    /// # Errors
    /// What is wrong, where the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        // What no run reaches and arithmetic could not take.
        const MOST: u64 = 1 << 62;
        let is_possible = state.epoch < u32::MAX
            && state.step < MOST
            && state.batches as u64 <= state.step
            && state.updates <= state.step
            && state.sums.images() as u64 <= MOST
            && state.best.is_none_or(|best| best <= state.position());
        if is_possible {
            Ok(state)
        } else {
            Err("counters that no run reaches".to_owned())
        }
    }

    /// The state as JSON; equal states give equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and lists serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn counters_that_no_run_reaches_are_refused() {
        let state = TrainingState {
            epoch: 2,
            step: 20,
            updates: 19,
            batches: 3,
            ..TrainingState::new(Schedule::new(&Settings::default()))
        };
        assert_eq!(TrainingState::parse(&state.to_json()), Ok(state.clone()));
        let later = Position {
            epoch: 2,
            batches: 4,
        };
        let changes: [fn(&mut TrainingState); 4] = [
            |state| state.epoch = u32::MAX,
            |state| state.step = u64::MAX,
            |state| state.batches = 21,
            |state| state.updates = 21,
        ];
        for change in changes {
            let mut impossible = state.clone();
            change(&mut impossible);
            assert!(TrainingState::parse(&impossible.to_json()).is_err());
        }
        let ahead = TrainingState {
            best: Some(later),
            ..state
        };
        assert!(TrainingState::parse(&ahead.to_json()).is_err());
    }
}
