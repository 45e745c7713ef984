//! Why a device cannot be used, or no longer.

use run_files::settings::{DeviceChoice, Devices};

/// Why a device cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The backend is not in this program.
    #[error(
        "device `{device}` needs feature `{feature}`, which this program was built without: give the same command to \
         cargo xtask, which builds what it needs (`cargo xtask COMMAND --device {device} ...`), or build the program with `cargo build -p trainer --features {feature}`"
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
    /// The device has no arithmetic in bfloat16.
    #[error(
        "`--precision bf16` is not for device `{device}`: {reason}; train with `--precision f32`, or use another `--device`"
    )]
    NoBf16 {
        /// What was asked for.
        device: DeviceChoice,
        /// Why not.
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
    /// A tensor is larger than the device's buffers, however much memory it has.
    #[error(
        "device `{device}` has no buffer of {}: take a smaller `--batch-size`, in training `--micro-batch-size`, or a smaller `--width`",
        run_files::disk::amount(*.bytes)
    )]
    NoSuchBuffer {
        /// The device in use.
        device: DeviceChoice,
        /// Of the tensor.
        bytes: u64,
    },
    /// Not even the smallest micro-batch fits.
    #[error(
        "no micro-batch fits the memory of device `{device}`: {reason}; take a smaller `--width` or `--depth`, \
         add `--gradient-checkpointing`, or say with `--memory-limit` that there is more"
    )]
    NothingFits {
        /// The device.
        device: DeviceChoice,
        /// What is needed, and what there is.
        reason: String,
    },
    /// A command that works on one device was given several.
    #[error(
        "`{command}` works on one device, and `--device {devices}` names {}: give it one of them; `train` takes several",
        .devices.count()
    )]
    Several {
        /// The command.
        command: &'static str,
        /// What was asked for.
        devices: Devices,
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
    Model(vae_core::ConfigError),
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

impl From<vae_core::ConfigError> for DeviceError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Model(error)
    }
}

impl DeviceError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BackendNotCompiled { .. }
            | Self::UnknownMemory { .. }
            | Self::Several { .. }
            | Self::NoBf16 { .. }
            | Self::Model(_) => 2,
            Self::OutOfMemory { .. } | Self::NothingFits { .. } | Self::NoSuchBuffer { .. } => 31,
            Self::Lost { .. } | Self::Unavailable { .. } => 32,
        }
    }
}
