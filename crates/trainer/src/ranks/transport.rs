//! How messages get from rank to rank.

use std::time::Duration;

use super::error::RanksError;

/// What one rank tells another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    /// A few numbers, exactly.
    pub(crate) numbers: Vec<f64>,
    /// A piece of a long vector.
    pub(crate) values: Vec<f32>,
    pub(crate) text: String,
}

/// Time spent on other ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent {
    /// Until the other had come to the same point.
    pub(crate) waiting: Duration,
    /// From then on, until both had what the other sent.
    pub(crate) transfer: Duration,
    /// Bytes sent.
    pub(crate) bytes: u64,
}

impl Spent {
    /// Counts more.
    pub(crate) fn add(&mut self, more: Self) {
        self.waiting += more.waiting;
        self.transfer += more.transfer;
        self.bytes += more.bytes;
    }
}

/// Connects this process with the other ranks. Both sides of a message call the matching function in the same order.
pub(crate) trait Transport: Send {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// How many there are; a power of two.
    fn size(&self) -> usize;

    /// Sends to `other` what it gets back at the same time.
    ///
    /// # Errors
    /// Where a rank is lost or has ended.
    fn exchange(&mut self, other: usize, message: Message) -> Result<Message, RanksError>;

    /// Asks all others for a sign of life, and takes note of those that came since the last call.
    ///
    /// # Errors
    /// Where a rank has been silent for too long, or has ended.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    fn watch(&mut self) -> Result<(), RanksError>;

    /// Tells all others that this rank ends with an error of its own.
    fn fail(&mut self, code: u8);

    /// Whether another rank has told that it ends with an error, or does so within some time.
    fn hears_of_end(&mut self, within: Duration) -> bool;

    /// What was spent since this was last asked.
    fn take_spent(&mut self) -> Spent;

    /// Waits until all others have come here too, at most as long as a rank may give no sign of life.
    fn end(&self);

    /// Ends all ranks, also those that hang.
    fn abort(&self, code: u8);
}
