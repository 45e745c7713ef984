//! Why a device cannot be used, or no longer.

use run_files::settings::DeviceChoice;

/// Why a device cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The backend is not in this program.
    #[error(
        "device `{device}` needs feature `{feature}`, which this program was built without; \
         run `cargo xtask train --device {device}`, or build it with `cargo build -p trainer --features {feature}`"
    )]
    BackendNotCompiled {
        /// What was asked for.
        device: DeviceChoice,
        /// What would provide it.
        feature: &'static str,
    },
    /// The device is compiled in, but cannot be used here.
    #[error("device `{device}` cannot be used: {reason}")]
    Unavailable {
        /// What was asked for.
        device: DeviceChoice,
        /// What is missing, and where to get it.
        reason: String,
    },
    /// The device or the system has no memory left.
    #[error(
        "out of memory on device `{device}`: {reason}; train with `--auto-batch`, or a smaller `--batch-size` or \
         `--width` (`cargo xtask summary` shows the memory of a step)"
    )]
    OutOfMemory {
        /// The device in use.
        device: DeviceChoice,
        /// What was needed, or what the backend reported.
        reason: String,
    },
    /// A micro-batch is to be chosen by the memory that is free, and nobody tells how much that is.
    #[error(
        "the free memory of device `{device}` cannot be found out; give it with `--memory-limit 8GiB`"
    )]
    UnknownMemory {
        /// The device.
        device: DeviceChoice,
    },
    /// The model whose memory was to be predicted has no such sizes.
    #[error("no model has these sizes: {0}")]
    Model(#[from] vae_core::ConfigError),
    /// Values could not be read from the device.
    #[error(
        "values could not be read from device `{device}`: {reason}; run again, or with `--device flex`"
    )]
    Lost {
        /// The device in use.
        device: DeviceChoice,
        /// What the backend reported.
        reason: String,
    },
}

impl DeviceError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BackendNotCompiled { .. } | Self::UnknownMemory { .. } | Self::Model(_) => 2,
            Self::OutOfMemory { .. } => 31,
            Self::Lost { .. } | Self::Unavailable { .. } => 32,
        }
    }
}
