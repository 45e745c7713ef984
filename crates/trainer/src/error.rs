//! What can stop a command.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::image_sheet::ImageSheetError;
use crate::loss_curves::LossCurvesError;
use crate::metrics::MetricsError;
use crate::run_record::RunRecordError;
use crate::settings::{DeviceChoice, Difference, SettingsError};
use crate::sweep::SweepError;

/// What can stop a command, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainerError {
    /// A setting is unknown or impossible.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The model's sizes do not fit together.
    #[error("no model has these sizes: {0}")]
    Model(#[from] vae_core::ConfigError),
    /// The data set is missing or damaged.
    #[error(transparent)]
    Data(#[from] cifar_loader::Error),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metric files could not be written or read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A picture could not be written or read.
    #[error(transparent)]
    Picture(#[from] ImageSheetError),
    /// The loss curves could not be drawn.
    #[error(transparent)]
    LossCurves(#[from] LossCurvesError),
    /// The folder of a run could not be read back.
    #[error(transparent)]
    RunRecord(#[from] RunRecordError),
    /// A sweep could not be made, or some of its runs failed.
    #[error(transparent)]
    Sweep(#[from] SweepError),
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
    DeviceUnavailable {
        /// What was asked for.
        device: DeviceChoice,
        /// What is missing, and where to get it.
        reason: String,
    },
    /// A run is there already.
    #[error(
        "{} holds a run; continue it with `--resume`, or name another folder with `--run-dir`",
        .path.display()
    )]
    RunFolderInUse {
        /// The run folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("another process is training in {}; wait for it, or name another folder with `--run-dir`", .path.display())]
    RunFolderLocked {
        /// The run folder.
        path: PathBuf,
    },
    /// There is no finished or running training in the folder.
    #[error("{} holds no {missing}; train there first with `cargo xtask train --run-dir {}`", .path.display(), .path.display())]
    NoRun {
        /// The run folder.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// A resumed run would not be the same run.
    #[error(
        "{} was started with other settings ({}); resume with the settings in its config.json, or name another folder \
         with `--run-dir`",
        .path.display(), list(.differences)
    )]
    SettingsChanged {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// A resumed run would see other images.
    #[error("{} was trained on data with hash {expected}, and this data has {found}; give the same data with `--data-dir`", .path.display())]
    DataChanged {
        /// The run folder.
        path: PathBuf,
        /// Recorded when the run began.
        expected: String,
        /// Of the data at hand.
        found: String,
    },
    /// The loss or a gradient is not a number any more.
    #[error(
        "step {step} of epoch {epoch} gave a {term} of {value}; the last checkpoint is intact; \
         train again with a smaller `--learning-rate`"
    )]
    NonFinite {
        /// Epoch, from 1.
        epoch: u32,
        /// Step since the run began, from 0.
        step: u64,
        /// Which term.
        term: String,
        /// What it was.
        value: f64,
    },
    /// Too little data for one batch or one evaluation.
    #[error("the {split} split has no image; raise `--limit-train` or `--limit-test`")]
    EmptySplit {
        /// Its name.
        split: cifar_loader::Split,
    },
    /// Values could not be read from the device.
    #[error(
        "values could not be read from device `{device}`: {reason}; run again, or with `--device flex`"
    )]
    DeviceLost {
        /// The device in use.
        device: DeviceChoice,
        /// What the backend reported.
        reason: String,
    },
    /// The comparison with PyTorch could not be made.
    #[error(
        "PyTorch did not run ({reason}); install it with `pip install torch numpy`, or leave out `--against-pytorch`"
    )]
    Pytorch {
        /// The last thing it said.
        reason: String,
    },
    /// A file of the run folder could not be written or read.
    #[error("{}: {source}; check the folder's permissions and the free space", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
}

impl TrainerError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainerError::Settings(_)
            | TrainerError::Model(_)
            | TrainerError::BackendNotCompiled { .. }
            | TrainerError::DeviceUnavailable { .. }
            | TrainerError::RunFolderInUse { .. }
            | TrainerError::RunFolderLocked { .. }
            | TrainerError::NoRun { .. }
            | TrainerError::SettingsChanged { .. }
            | TrainerError::DataChanged { .. }
            | TrainerError::EmptySplit { .. }
            | TrainerError::Pytorch { .. } => 2,
            TrainerError::Data(error) => error.exit_code(),
            TrainerError::RunRecord(error) => error.exit_code(),
            TrainerError::Sweep(error) => error.exit_code(),
            TrainerError::Checkpoint(_) => 20,
            TrainerError::Metrics(_)
            | TrainerError::Picture(_)
            | TrainerError::LossCurves(_)
            | TrainerError::File { .. } => 21,
            TrainerError::NonFinite { .. } => 30,
            TrainerError::DeviceLost { .. } => 32,
        }
    }
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
