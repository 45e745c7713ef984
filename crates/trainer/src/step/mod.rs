//! One training step: a batch becomes a loss, gradients, and other weights.

pub mod adam;
pub(crate) mod block_checkpointing;
pub(crate) mod engine;
pub(crate) mod fault;
pub mod gradient_norms;
pub(crate) mod gradient_sum;
pub(crate) mod kl_objective;
#[cfg(feature = "cube")]
mod on_device;
pub(crate) mod pass;
#[cfg(all(test, feature = "flex"))]
mod passes_by_hand;
pub(crate) mod replicas;
pub(crate) mod request;
pub mod running_statistics;
pub(crate) mod shards;
pub(crate) mod weight_average;
