//! The end of a rank with an error, as it is told and heard.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mpi::traits::{Communicator, Source};

use super::signs::FAILED;
use super::thread::{IDLE, MpiThread};

impl MpiThread {
    /// Tells all others with which exit code this rank ends, and waits for none of them: one that was stopped or cut off takes no message.
    pub(super) fn tell_end(&self, code: u8, reply: &Sender<()>) {
        for other in 0..self.world.size() {
            if other != self.world.rank() {
                let process = self.world.process_at_rank(other);
                self.signs.send(&process, code, FAILED);
            }
        }
        let began = Instant::now();
        while began.elapsed() < IDLE {
            // Calls are what moves messages.
            self.answer();
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = reply.send(());
    }

    /// Whether another rank has told its end, or does so within some time.
    pub(super) fn listen(&self, within: Duration, reply: &Sender<bool>) {
        let began = Instant::now();
        let any = self.world.any_process();
        let mut hears = any.immediate_probe_with_tag(FAILED).is_some();
        while !hears && began.elapsed() < within {
            self.answer();
            std::thread::sleep(Duration::from_millis(10));
            hears = any.immediate_probe_with_tag(FAILED).is_some();
        }
        let _ = reply.send(hears);
    }
}
