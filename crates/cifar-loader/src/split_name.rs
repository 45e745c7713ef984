//! The names of the splits.

use crate::names::names;

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Images the model learns from.
    Train,
    /// Images that decide about learning rate and stopping.
    Valid,
    /// Images for the final figures.
    Test,
}

names!(Split, "split", Train => "train", Valid => "valid", Test => "test");
