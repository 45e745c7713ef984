//! Forward and backward of a batch: in one pass, in shards, and on several devices.

pub(crate) mod pass;
#[cfg(all(test, feature = "flex"))]
mod passes_by_hand;
pub(crate) mod replicas;
pub(crate) mod shards;
