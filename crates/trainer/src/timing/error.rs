//! Why a step could not be timed.

use crate::device::DeviceError;
use crate::experiment::ExperimentError;
use crate::ranks::RanksError;

/// Why a step could not be timed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// The model or its data.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The other ranks.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// The comparison with PyTorch could not be made.
    #[error(
        "PyTorch did not run ({reason}); install it with `pip install torch numpy`, or leave out the flag that \
         names that Python"
    )]
    Pytorch {
        /// The last thing it said.
        reason: String,
    },
}

impl TimingError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Experiment(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Ranks(error) => error.exit_code(),
            Self::Pytorch { .. } => 2,
        }
    }
}

impl From<vae_core::ConfigError> for TimingError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<cifar_loader::Error> for TimingError {
    fn from(error: cifar_loader::Error) -> Self {
        Self::Experiment(error.into())
    }
}
