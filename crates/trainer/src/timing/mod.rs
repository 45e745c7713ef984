//! How long a training step takes, here and in PyTorch, and how that grows.

mod between_ranks;
mod error;
mod likelihood_timing;
pub(crate) mod median;
pub mod pytorch_timing;
pub mod step_scaling;
pub mod step_timing;

pub use error::TimingError;
