//! What can stop the check of a device.

use std::path::PathBuf;

use crate::device::DeviceError;
use crate::experiment::ExperimentError;
use crate::timing::TimingError;
use run_files::run_folder::RunFolderError;
use run_files::settings::SettingsError;

/// What can stop the check of a device, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuCheckError {
    /// The model or its data.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// A setting is unknown or impossible.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A step could not be timed.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The results could not be written.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// There is no such part.
    #[error(
        "there is no part `{given}`; name one of {known}, or a kind of parts by its first word"
    )]
    UnknownPart {
        /// What was asked for.
        given: String,
        /// What there is.
        known: String,
    },
    /// A budget that is no number of seconds.
    #[error(
        "`--budget {seconds}` leaves no time to check anything; give seconds above 0, a million at most"
    )]
    Budget {
        /// What was given.
        seconds: f64,
    },
    /// The results there are of another device or cannot be read.
    #[error("{} {reason}; name another folder with `--out`, or leave out `--part` to begin anew", .path.display())]
    OtherResults {
        /// `results.json`.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A process that a part had started failed.
    #[error("a process that was to take steps failed: {reason}")]
    Start {
        /// Its last message.
        reason: String,
    },
    /// The program could not start itself.
    #[error("a part could not be started: {0}; run it from a folder that programs may be run from")]
    NotStarted(std::io::Error),
    /// A part, in its own process, did not succeed.
    #[error("{reason}; `{}` has the numbers", .results.display())]
    PartsFailed {
        /// Which parts, and why.
        reason: String,
        /// The table.
        results: PathBuf,
    },
}

impl GpuCheckError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Experiment(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Timing(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::Settings(_)
            | Self::UnknownPart { .. }
            | Self::Budget { .. }
            | Self::OtherResults { .. } => 2,
            Self::NotStarted(_) | Self::Start { .. } | Self::PartsFailed { .. } => 1,
        }
    }
}

impl From<vae_core::ConfigError> for GpuCheckError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<cifar_loader::Error> for GpuCheckError {
    fn from(error: cifar_loader::Error) -> Self {
        Self::Experiment(error.into())
    }
}
