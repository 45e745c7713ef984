//! Messages through the MPI library of the system.
//!
//! One thread makes all calls of MPI, so that the others may wait with a limit: it polls operations that do not block, answers
//! the question of other ranks whether this one is alive, also while the model computes, and asks the rank that it waits for.

mod ending;
mod liveness;
mod signs;
mod thread;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mpi::Threading;
use mpi::traits::Communicator;

use self::signs::Signs;
use self::thread::{Command, MpiThread};
use super::error::RanksError;
use super::transport::{Message, Spent, Transport};
use crate::process::stop_request::StopRequest;

/// How long the end may take once all ranks have come to it.
const FINALIZE: Duration = Duration::from_secs(10);

/// The way to the other ranks.
pub(super) struct Mpi {
    rank: usize,
    size: usize,
    commands: Sender<Command>,
    spent: Arc<Mutex<Spent>>,
    /// Why nothing can be exchanged any more.
    failed: Option<RanksError>,
}

impl Mpi {
    /// Starts MPI. `timeout` is how long a rank that is waited for may give no sign of life.
    pub(super) fn start(timeout: Duration, stop: &StopRequest) -> Result<Self, RanksError> {
        let (commands, received) = channel();
        let (started, start) = channel();
        let spent = Arc::new(Mutex::new(Spent::default()));
        let (of_thread, stop) = (spent.clone(), stop.clone());
        std::thread::spawn(move || {
            let Some((universe, _)) = mpi::initialize_with_threading(Threading::Serialized) else {
                return;
            };
            let world = universe.world();
            let _ = started.send((world.rank() as usize, world.size() as usize));
            let thread = MpiThread {
                universe: Some(universe),
                world,
                commands: received,
                spent: of_thread,
                timeout,
                stop,
                watched: Vec::new(),
                signs: Signs::default(),
            };
            thread.work();
        });
        let (rank, size) = start.recv().map_err(|_| RanksError::NotStarted {
            reason: "it has been started already".to_owned(),
        })?;
        Ok(Self {
            rank,
            size,
            commands,
            spent,
            failed: None,
        })
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&mut self, other: usize, message: Message) -> Result<Message, RanksError> {
        // The thread answers no exchange after one that failed.
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Exchange(other, message, reply));
        let received = replied.recv().unwrap_or(Err(RanksError::Lost {
            rank: other,
            size: self.size,
            seconds: 0,
        }));
        if let Err(error) = &received {
            self.failed = Some(error.clone());
        }
        received
    }

    fn watch(&mut self) -> Result<(), RanksError> {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Watch(reply));
        // A thread that does not answer waits for the end itself.
        replied.recv_timeout(FINALIZE).unwrap_or(Ok(()))
    }

    fn fail(&mut self, code: u8) {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Fail(code, reply));
        let _ = replied.recv_timeout(FINALIZE);
    }

    fn hears_of_end(&mut self, within: Duration) -> bool {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Hear(within, reply));
        replied.recv_timeout(within + FINALIZE).unwrap_or(false)
    }

    fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self) {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::End(reply));
        let _ = replied.recv_timeout(FINALIZE);
    }

    fn abort(&self, code: u8) {
        let _ = self.commands.send(Command::Abort(code));
        std::thread::sleep(FINALIZE);
        // The library did not manage it.
        std::process::exit(i32::from(code));
    }
}
