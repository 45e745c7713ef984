//! Processes that share each batch of a run: the ranks that `mpirun` or `srun` starts, on one machine or several.
//!
//! Every rank holds the whole model and computes its own shards of each batch. Gradients, running statistics and losses are added
//! up in the same binary tree whatever the number of ranks (`tree_sum`), so all of them take the same step and hold the same
//! weights. Only rank 0 writes files and prints progress.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::process::stop_request::StopRequest;

pub(crate) mod agreement;
pub(crate) mod batch_division;
pub(crate) mod division;
mod error;
pub(crate) mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "cube")]
pub(crate) mod piecewise_sum;
mod requests;
#[cfg(test)]
pub(crate) mod threads;
mod transport;
pub(crate) mod tree_sum;

pub use error::RanksError;
pub(crate) use requests::Requests;
pub(crate) use transport::{Message, Spent, Transport};
use tree_sum::Contribution;

/// The ranks of a run, seen from one of them.
#[derive(Clone)]
pub struct Ranks {
    rank: usize,
    size: usize,
    /// None where this process is alone.
    transport: Option<Arc<Mutex<Box<dyn Transport>>>>,
    /// What was spent on the others beside it, from GPU to GPU.
    beside: Arc<Mutex<Spent>>,
}

impl Ranks {
    /// A process on its own.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            size: 1,
            transport: None,
            beside: Arc::default(),
        }
    }

    /// The ranks that a launcher has started this process with; alone where none has.
    ///
    /// `timeout` is how long another rank may give no sign of life.
    ///
    /// # Errors
    /// Where this program was built without MPI or with another library than the launcher's, or MPI does not start.
    pub fn of_launcher(timeout: Duration, stop: &StopRequest) -> Result<Self, RanksError> {
        if !launcher::has_started_ranks(&|name| std::env::var(name).ok()) {
            return Ok(Self::alone());
        }
        #[cfg(feature = "mpi")]
        {
            let transport = mpi::Mpi::start(timeout, stop)?;
            match transport.size() {
                1 => {
                    transport.end();
                    // The library of another launcher finds itself alone, and each rank would train for itself.
                    let started = launcher::started_ranks(&|name| std::env::var(name).ok());
                    match started.filter(|started| *started > 1) {
                        Some(ranks) => Err(RanksError::OtherLibrary { ranks }),
                        None => Ok(Self::alone()),
                    }
                }
                size if !size.is_power_of_two() => {
                    transport.end();
                    Err(RanksError::NoPowerOfTwo { size })
                }
                _ => Ok(Self::over(Box::new(transport))),
            }
        }
        #[cfg(not(feature = "mpi"))]
        {
            let _ = (timeout, stop);
            Err(RanksError::NotBuilt)
        }
    }

    /// Those that this transport connects.
    #[cfg_attr(not(any(test, feature = "mpi")), expect(dead_code))]
    pub(crate) fn over(transport: Box<dyn Transport>) -> Self {
        Self {
            rank: transport.rank(),
            size: transport.size(),
            transport: Some(Arc::new(Mutex::new(transport))),
            beside: Arc::default(),
        }
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the rank that writes and speaks.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether there are others.
    pub(crate) fn are_several(&self) -> bool {
        self.transport.is_some()
    }

    /// The way to the others, which there are.
    fn transport(&self) -> Option<MutexGuard<'_, Box<dyn Transport>>> {
        let transport = self.transport.as_ref()?;
        // A panic has nothing to do with what is connected.
        Some(transport.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rank 0's message, on every rank.
    pub(crate) fn broadcast(&self, message: Message) -> Result<Message, RanksError> {
        let Some(mut transport) = self.transport() else {
            return Ok(message);
        };
        tree_sum::broadcast(&mut **transport, message)
    }

    /// The sum over all ranks, and what any of them asks for. A rank without a shard of the batch contributes none.
    ///
    /// `length` is that of the values.
    ///
    /// # Errors
    /// Where a rank is lost or has ended.
    pub(crate) fn sum(
        &self,
        own: Option<Contribution>,
        length: usize,
        requests: Requests,
    ) -> Result<(Contribution, Requests), RanksError> {
        match self.transport() {
            None => Ok((own.unwrap_or_default(), requests)),
            Some(mut transport) => tree_sum::sum(&mut **transport, own, length, requests),
        }
    }

    /// Tells the others that this rank ends with an error of its own, whose exit code theirs will be.
    pub(crate) fn fail(&self, code: u8) {
        if let Some(mut transport) = self.transport() {
            transport.fail(code);
        }
    }

    /// What was spent on the others since this was last asked.
    pub(crate) fn take_spent(&self) -> Spent {
        let mut spent = match self.transport() {
            Some(mut transport) => transport.take_spent(),
            None => Spent::default(),
        };
        let beside = self
            .beside
            .lock()
            .map(|mut spent| std::mem::take(&mut *spent));
        spent.add(beside.unwrap_or_default());
        spent
    }

    /// Takes note of what was spent on another rank without MPI.
    #[cfg(feature = "cuda")]
    pub(crate) fn add_spent(&self, spent: Spent) {
        if let Ok(mut beside) = self.beside.lock() {
            beside.add(spent);
        }
    }

    /// What every rank says, in their order.
    ///
    /// # Errors
    /// Where a rank is lost or has ended with an error.
    pub(crate) fn gathered(&self, own: f64) -> Result<Vec<f64>, RanksError> {
        let mut numbers = vec![0.0; self.size];
        numbers[self.rank] = own;
        let own = Contribution {
            numbers,
            ..Contribution::default()
        };
        let (sum, _) = self.sum(Some(own), 0, Requests::default())?;
        Ok(sum.numbers)
    }

    /// Sends a message to another rank, which sends one to this.
    ///
    /// # Errors
    /// Where it is lost or has ended with an error.
    pub(crate) fn exchange(&self, other: usize, message: Message) -> Result<Message, RanksError> {
        match self.transport() {
            Some(mut transport) => transport.exchange(other, message),
            None => Ok(message),
        }
    }

    /// Whether all ranks say so.
    ///
    /// # Errors
    /// Where a rank is lost or has ended with an error.
    #[cfg(feature = "cuda")]
    pub(crate) fn all(&self, own: bool) -> Result<bool, RanksError> {
        let said = self.gathered(f64::from(u8::from(own)))?;
        Ok(said.iter().all(|own| *own == 1.0))
    }

    /// Asks whether the others are alive, without waiting for their answer: to be called again and again while something else waits for them.
    ///
    /// # Errors
    /// Where a rank has been silent for too long, or has ended with an error.
    #[cfg(feature = "cuda")]
    pub(crate) fn watch(&self) -> Result<(), RanksError> {
        match self.transport() {
            Some(mut transport) => transport.watch(),
            None => Ok(()),
        }
    }

    /// Waits until all ranks have come here.
    ///
    /// # Errors
    /// Where a rank is lost or has ended with an error.
    pub(crate) fn meet(&self) -> Result<(), RanksError> {
        self.sum(None, 0, Requests::default()).map(|_| ())
    }

    /// Whether another rank is known within some time to have ended with an error.
    pub(crate) fn hears_of_end(&self, within: Duration) -> bool {
        self.transport()
            .is_some_and(|mut transport| transport.hears_of_end(within))
    }

    /// Rank 0's text, on every rank.
    pub(crate) fn first_ranks_text(&self, text: String) -> Result<String, RanksError> {
        let message = Message {
            text,
            ..Message::default()
        };
        Ok(self.broadcast(message)?.text)
    }

    /// The number of this rank among those of its machine that see the same GPUs, from 0, where each uses so many.
    pub(crate) fn local_rank(&self, devices: usize) -> usize {
        if self.are_several() {
            launcher::local_rank(&|name| std::env::var(name).ok(), devices)
        } else {
            0
        }
    }

    /// Parts from the others in order, once all of them have come here: call it when there is nothing more to say or write.
    pub(crate) fn end(&self) {
        if let Some(transport) = self.transport() {
            transport.end();
        }
    }

    /// Ends all ranks, also those that hang.
    pub(crate) fn abort(&self, code: u8) {
        if let Some(transport) = self.transport() {
            transport.abort(code);
        }
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rank {} of {}", self.rank, self.size)
    }
}
