//! Which steps may change the weights.
//!
//! A step whose loss or gradient is not finite is skipped. Of finite ones all are taken, unless the settings ask to skip
//! those whose gradient is far larger than usual.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Steps in a row that may be skipped for not being finite; at the last of them training stops.
pub const MOST_NON_FINITE_IN_A_ROW: u32 = 10;
/// Losses kept for the report of a divergence.
const RECENT_LOSSES: usize = 50;
/// Gradient norms whose median is the measure of a usual one.
const RECENT_NORMS: usize = 100;
/// Norms before there is a usual one.
const FEWEST_NORMS: usize = 20;

/// The loss of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLoss {
    /// Step since the run began, from 0.
    pub step: u64,
    /// Mean over the batch, in nats an image; none where it was not finite.
    pub loss: Option<f64>,
}

/// Counts skipped steps and remembers what is needed to judge the next one; a part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepGuard {
    /// Skipped since the run began, for either reason.
    pub skipped: u64,
    /// Skipped in the present epoch, for either reason.
    pub skipped_in_epoch: u32,
    /// Skipped in a row for not being finite.
    pub non_finite_in_row: u32,
    /// The last losses, oldest first.
    pub recent_losses: VecDeque<StepLoss>,
    /// The last finite gradient norms but for the newest step's, oldest first, of skipped steps too; empty where no finite step is skipped.
    pub recent_norms: VecDeque<f64>,
    /// The newest step's, which is no measure for the step behind it: a GPU begins that one before the host has read this norm.
    #[serde(default)]
    pub newest_norm: Option<f64>,
}

impl StepGuard {
    /// Remembers a step's loss.
    pub fn saw_loss(&mut self, step: u64, loss: f64) {
        push(
            &mut self.recent_losses,
            RECENT_LOSSES,
            StepLoss {
                step,
                loss: loss.is_finite().then_some(loss),
            },
        );
    }

    /// A step was not finite and is skipped; whether training should stop.
    pub fn skip_non_finite(&mut self) -> bool {
        self.age_norms(None);
        self.skipped = self.skipped.saturating_add(1);
        self.skipped_in_epoch = self.skipped_in_epoch.saturating_add(1);
        self.non_finite_in_row = self.non_finite_in_row.saturating_add(1);
        self.non_finite_in_row >= MOST_NON_FINITE_IN_A_ROW
    }

    /// A step was finite, with this gradient norm: whether it is to be skipped all the same, because the norm exceeds
    /// `factor` times the median of a hundred norms before that of the last step.
    ///
    /// Norms of skipped steps count towards the median, so a gradient that stays large is usual after at most fifty
    /// steps: a fixed threshold, as in openai/vdvae, can skip every step for ever.
    pub fn skips_large(&mut self, norm: f64, factor: Option<f64>) -> bool {
        self.non_finite_in_row = 0;
        let Some(factor) = factor else { return false };
        let usual = usual_norm(&self.recent_norms);
        self.age_norms(Some(norm));
        let is_skipped = usual.is_some_and(|usual| norm > factor * usual);
        if is_skipped {
            self.skipped = self.skipped.saturating_add(1);
            self.skipped_in_epoch = self.skipped_in_epoch.saturating_add(1);
        }
        is_skipped
    }

    /// The largest norm of a step that is taken, as [`skips_large`](Self::skips_large) will judge it; none for any. It is known before the step in
    /// front of it has ended: `is_behind_another` says that this one's outcome has not been told yet.
    pub fn largest_norm(&self, factor: Option<f64>, is_behind_another: bool) -> Option<f64> {
        let factor = factor?;
        let usual = match self.newest_norm {
            Some(newest) if is_behind_another => {
                let mut norms = self.recent_norms.clone();
                push(&mut norms, RECENT_NORMS, newest);
                usual_norm(&norms)
            }
            _ => usual_norm(&self.recent_norms),
        };
        Some(factor * usual?)
    }

    /// Another step has ended: the norm of the one before counts from now on.
    fn age_norms(&mut self, newest: Option<f64>) {
        if let Some(before) = std::mem::replace(&mut self.newest_norm, newest) {
            push(&mut self.recent_norms, RECENT_NORMS, before);
        }
    }
}

/// The median of norms, where there are enough of them.
fn usual_norm(norms: &VecDeque<f64>) -> Option<f64> {
    if norms.len() < FEWEST_NORMS {
        return None;
    }
    let mut sorted: Vec<f64> = norms.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    Some(sorted[sorted.len() / 2])
}

fn push<T>(recent: &mut VecDeque<T>, most: usize, newest: T) {
    while recent.len() >= most {
        recent.pop_front();
    }
    recent.push_back(newest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_a_row_stop_and_one_finite_step_between_does_not() {
        let mut guard = StepGuard::default();
        let stops: Vec<bool> = (0..10).map(|_| guard.skip_non_finite()).collect();
        assert_eq!(stops.iter().position(|stop| *stop), Some(9));
        let mut guard = StepGuard::default();
        for _ in 0..100 {
            for _ in 0..9 {
                assert!(!guard.skip_non_finite());
            }
            assert!(!guard.skips_large(1e30, None));
        }
        assert_eq!(guard.skipped, 900);
    }

    #[test]
    fn a_spike_is_skipped_and_a_lasting_rise_is_not_for_long() {
        let mut guard = StepGuard::default();
        let mut skipped = |norm| guard.skips_large(norm, Some(5.0));
        for _ in 0..100 {
            assert!(!skipped(1.0));
        }
        assert!(skipped(5.1));
        assert!(!skipped(4.9));
        // The failure of a fixed threshold: every norm is large from now on.
        let rise: Vec<bool> = (0..200).map(|_| skipped(400.0)).collect();
        let last = rise.iter().rposition(|skipped| *skipped);
        assert!(last.is_some_and(|last| last <= 50), "{last:?}");
    }

    /// What a GPU is told before it begins a step is what the host judges it by later, also behind steps that were not finite.
    #[test]
    fn a_step_is_judged_by_what_was_known_before_the_one_in_front_of_it() {
        let (factor, mut guard) = (Some(3.0), StepGuard::default());
        let mut open = None;
        let (mut steps, mut skipped) = (0, 0);
        for step in 0..300u64 {
            // Every value once in a while, with spikes.
            let norm = match step % 23 {
                7 => None,
                11 => Some(40.0),
                other => Some(1.0 + (step * 37 % 11) as f64 / 7.0 + other as f64 / 100.0),
            };
            let told = guard.largest_norm(factor, open.is_some());
            if let Some((norm, told)) = open.replace((norm, told)) {
                let Some(norm) = norm else {
                    guard.skip_non_finite();
                    continue;
                };
                // A resumed run begins with a step that is behind none.
                let read = serde_json::to_value(&guard).expect("serialises");
                let mut resumed: StepGuard = serde_json::from_value(read).expect("reads back");
                assert_eq!(resumed.largest_norm(factor, false), told, "step {step}");
                let is_skipped = guard.skips_large(norm, factor);
                assert_eq!(is_skipped, told.is_some_and(|largest| norm > largest));
                assert_eq!(resumed.skips_large(norm, factor), is_skipped);
                steps += 1;
                skipped += u32::from(is_skipped);
            }
        }
        assert!(steps > 200 && (5..50).contains(&skipped), "{skipped}");
    }

    #[test]
    fn early_steps_and_runs_without_the_option_are_never_skipped() {
        let mut guard = StepGuard::default();
        for norm in [1.0, 1e9, 1e-9, 1e18] {
            assert!(!guard.skips_large(norm, Some(2.0)));
        }
        let mut guard = StepGuard::default();
        for _ in 0..200 {
            guard.skips_large(1.0, None);
        }
        assert!(!guard.skips_large(1e30, None));
        assert!(guard.recent_norms.is_empty());
    }

    #[test]
    fn fifty_losses_are_kept_and_those_not_finite_are_none() {
        let mut guard = StepGuard::default();
        for step in 0..60 {
            guard.saw_loss(step, if step == 59 { f64::NAN } else { step as f64 });
        }
        assert_eq!(guard.recent_losses.len(), 50);
        assert_eq!(guard.recent_losses[0].step, 10);
        assert_eq!(guard.recent_losses[49].loss, None);
        let json = serde_json::to_string(&guard).expect("serialises");
        assert_eq!(
            serde_json::from_str::<StepGuard>(&json).expect("reads back"),
            guard
        );
    }
}
