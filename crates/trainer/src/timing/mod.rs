//! How long a training step takes, here and in PyTorch, and how that grows.

mod error;
mod likelihood_timing;
pub mod pytorch_timing;
pub mod step_scaling;
pub mod step_timing;

pub use error::TimingError;
