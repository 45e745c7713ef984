//! What ranks ask each other for.

/// What the ranks tell each other besides the sums of a step: the largest of each counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// The number of the signal that asks a rank to stop; 0 for none.
    pub(crate) stop: u8,
    /// Whether a rank was asked for a checkpoint.
    pub(crate) checkpoint: bool,
}

impl Requests {
    /// What either asks for.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            stop: self.stop.max(other.stop),
            checkpoint: self.checkpoint || other.checkpoint,
        }
    }
}
