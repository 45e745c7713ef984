//! Where the shards of a batch meet at every norm, so that each is normalised with the statistics of all.
//!
//! Each shard of this rank is computed by a thread of its own. At each norm, forward and backward, the threads bring their sums; the last
//! one to come adds them up in the shards' tree, here and over the ranks, and all go on with the sum. So whoever computes the shards,
//! the sums have the same bits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use resnet_blocks::SharedBatch;

use crate::ranks::tree_sum::{Contribution, TreeSum};
use crate::ranks::{Ranks, RanksError, Requests};

/// The meetings of one step.
pub(crate) struct NormMeeting {
    ranks: Ranks,
    /// Images of the whole batch.
    images: usize,
    seats: usize,
    /// Whether this rank has no shard of the batch, and comes because the others wait for it.
    is_guest: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the shards have brought to the present meeting.
    brought: Vec<Option<Vec<f64>>>,
    meeting: u64,
    /// Of the last meeting.
    sum: Vec<f64>,
    /// Why there is no further meeting.
    end: Option<End>,
}

enum End {
    /// A thread has panicked.
    Failed,
    Ranks(RanksError),
}

/// One shard's place.
pub(crate) struct Seat {
    meeting: Arc<NormMeeting>,
    index: usize,
    /// Images of the shard.
    images: usize,
}

impl NormMeeting {
    /// For so many shards of this rank, of a batch of so many images; none where the batch has no shard for it.
    pub(crate) fn new(images: usize, shards: usize, ranks: &Ranks) -> Arc<Self> {
        let seats = shards.max(1);
        Arc::new(Self {
            ranks: ranks.clone(),
            images,
            seats,
            is_guest: shards == 0,
            state: Mutex::new(State {
                brought: vec![None; seats],
                ..State::default()
            }),
            changed: Condvar::new(),
        })
    }

    /// The place of this rank's shard with this number, which has so many images.
    pub(crate) fn seat(self: &Arc<Self>, index: usize, images: usize) -> Seat {
        Seat {
            meeting: self.clone(),
            index,
            images,
        }
    }

    /// The error because of which the sums of a pass mean nothing.
    pub(crate) fn error(&self) -> Option<RanksError> {
        match &self.state().end {
            Some(End::Ranks(error)) => Some(error.clone()),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum over all shards; numbers without a meaning where there is no further meeting, so that every pass comes to its end.
    fn sum(&self, seat: usize, own: Vec<f64>) -> Vec<f64> {
        let length = own.len();
        let mut state = self.state();
        if state.end.is_some() {
            return vec![1.0; length];
        }
        state.brought[seat] = Some(own);
        if state.brought.iter().any(Option::is_none) {
            let meeting = state.meeting;
            while state.meeting == meeting && state.end.is_none() {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
        } else {
            let mut sum = TreeSum::new();
            for own in std::mem::replace(&mut state.brought, vec![None; self.seats]) {
                let own = own.expect("all have come");
                sum.add(own, |left: Vec<f64>, right: Vec<f64>| {
                    let pairs = left.iter().zip(&right);
                    pairs.map(|(left, right)| left + right).collect()
                });
            }
            let own = sum.finish(|left, right| {
                let pairs = left.iter().zip(&right);
                pairs.map(|(left, right)| left + right).collect()
            });
            let own = own.filter(|_| !self.is_guest).map(|numbers| Contribution {
                numbers,
                ..Contribution::default()
            });
            match self.ranks.sum(own, 0, Requests::default()) {
                Ok((sum, _)) => state.sum = sum.numbers,
                Err(error) => state.end = Some(End::Ranks(error)),
            }
            state.meeting += 1;
            self.changed.notify_all();
        }
        match state.end {
            None => state.sum.clone(),
            Some(_) => vec![1.0; length],
        }
    }

    fn fail(&self) {
        self.state().end.get_or_insert(End::Failed);
        self.changed.notify_all();
    }
}

impl Seat {
    /// Computes the shard, forward and backward.
    pub(crate) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        struct Leaving(Arc<NormMeeting>);
        impl Drop for Leaving {
            fn drop(&mut self) {
                // The others would wait for this thread.
                if std::thread::panicking() {
                    self.0.fail();
                }
            }
        }
        let Self {
            meeting,
            index,
            images,
        } = self;
        let _leaving = Leaving(meeting.clone());
        let batch = SharedBatch::new(meeting.images, images, {
            let meeting = meeting.clone();
            move |own| meeting.sum(index, own)
        });
        batch.run(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::on_ranks;

    /// Numbers whose sum depends on the order.
    fn of_shard(shard: usize) -> Vec<f64> {
        vec![
            1e16 * [1.0, 3.0, -1.0, -3.0][shard] + shard as f64,
            0.1 * shard as f64,
        ]
    }

    fn sums_on(ranks: usize, shards: usize) -> Vec<Vec<u64>> {
        let slots = 4 / ranks;
        let found = on_ranks(ranks, |ranks| {
            let first = ranks.rank() * slots;
            let own = shards.saturating_sub(first).min(slots);
            let meeting = NormMeeting::new(shards, own, ranks);
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..own.max(1))
                    .map(|index| {
                        let meeting = meeting.clone();
                        scope.spawn(move || {
                            let own = of_shard((first + index).min(3));
                            // Two meetings, the second with what the first gave.
                            let sum = meeting.sum(index, own.clone());
                            meeting.sum(index, vec![sum[0], own[1]])
                        })
                    })
                    .collect();
                let sums = threads.into_iter().map(|thread| thread.join());
                sums.map(|sum| sum.expect("it ends")).collect::<Vec<_>>()
            })
        });
        let bits = |sum: Vec<f64>| sum.into_iter().map(f64::to_bits).collect();
        found.into_iter().flatten().map(bits).collect()
    }

    #[test]
    fn all_shards_of_all_ranks_get_the_same_bits() {
        for shards in [4, 3, 2] {
            let expected = sums_on(1, shards).swap_remove(0);
            for ranks in [1, 2, 4] {
                let found = sums_on(ranks, shards);
                assert!(found.len() >= shards);
                assert!(
                    found.iter().all(|sum| *sum == expected),
                    "{shards} shards, {ranks} ranks: {found:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_shard_that_has_failed() {
        let meeting = NormMeeting::new(2, 2, &Ranks::alone());
        let seat = meeting.seat(1, 1);
        let failed = std::thread::spawn(move || seat.run(|| panic!("as a device does")));
        assert_eq!(meeting.sum(0, vec![7.0, 8.0]).len(), 2);
        assert!(failed.join().is_err());
        assert!(meeting.error().is_none(), "its panic says why");
    }
}
