//! One training step: a batch becomes a loss, gradients, and other weights.

pub mod adam;
pub(crate) mod block_checkpointing;
pub(crate) mod engine;
pub(crate) mod fault;
pub(crate) mod finished_model;
pub mod gradient_norms;
pub(crate) mod gradient_sum;
pub(crate) mod kl_objective;
#[cfg(feature = "cube")]
mod on_device;
mod passes;
pub(crate) mod request;
pub mod running_statistics;
#[cfg(any(feature = "cube", test))]
mod verdict;
pub(crate) mod weight_average;

pub(crate) use passes::{pass, replicas};
