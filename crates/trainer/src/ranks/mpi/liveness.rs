//! Whether the other ranks are alive, and the word that this one is.

use std::time::{Duration, Instant};

use mpi::traits::{Communicator, MatchedReceiveVec, Source};

use super::signs::{ALIVE, FAILED, IS_ALIVE, Waiting};
use super::thread::MpiThread;
use crate::ranks::error::RanksError;

/// How often it asks the rank that it waits for whether it is alive.
const ASKING: Duration = Duration::from_secs(1);
/// How long that rank may be silent where this one was asked to stop: launchers do so when a rank has died, and kill soon after.
const SILENCE_AT_STOP: Duration = Duration::from_secs(4);

impl MpiThread {
    /// Looks after all other ranks, since the first call after a message.
    pub(super) fn watch(&mut self) -> Result<(), RanksError> {
        if self.watched.is_empty() {
            let own = self.world.rank() as usize;
            let all = 0..self.world.size() as usize;
            let others = all.filter(|other| *other != own);
            self.watched = others.map(Waiting::new).collect();
        }
        self.answer();
        let mut watched = std::mem::take(&mut self.watched);
        let lost = watched.iter_mut().find_map(|waiting| self.silence(waiting));
        self.watched = watched;
        match self.told_end().or(lost) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Another rank's word that it has ended with an error.
    pub(super) fn told_end(&self) -> Option<RanksError> {
        let any = self.world.any_process();
        let found = any.immediate_matched_probe_with_tag(FAILED)?;
        Some(RanksError::Ended {
            rank: found.1.source_rank() as usize,
            size: self.world.size() as usize,
            code: found.matched_receive_vec::<u8>().0[0],
        })
    }

    /// Asks a rank whether it is alive, and counts how long it has not been; an error where that is too long.
    pub(super) fn silence(&self, waiting: &mut Waiting) -> Option<RanksError> {
        let process = self.world.process_at_rank(waiting.other as i32);
        while let Some(found) = process.immediate_matched_probe_with_tag(ALIVE) {
            drop(found.matched_receive_vec::<u8>());
            waiting.silence = Duration::ZERO;
        }
        waiting.silence += waiting.looked.elapsed().min(ASKING);
        waiting.looked = Instant::now();
        if waiting.asked.elapsed() > ASKING {
            self.signs.send(&process, 0, IS_ALIVE);
            waiting.asked = Instant::now();
        }
        let limit = match self.stop.requested() {
            Some(_) => self.timeout.min(SILENCE_AT_STOP),
            None => self.timeout,
        };
        (waiting.silence > limit).then(|| RanksError::Lost {
            rank: waiting.other,
            size: self.world.size() as usize,
            seconds: waiting.silence.as_secs(),
        })
    }

    /// Tells those who ask that this process is alive.
    pub(super) fn answer(&self) {
        let any = self.world.any_process();
        while let Some(found) = any.immediate_matched_probe_with_tag(IS_ALIVE) {
            let from = found.1.source_rank();
            drop(found.matched_receive_vec::<u8>());
            let process = self.world.process_at_rank(from);
            self.signs.send(&process, 0, ALIVE);
        }
    }
}
