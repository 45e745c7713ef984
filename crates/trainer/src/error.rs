//! What can stop a command.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::gpu_check::GpuCheckError;
use crate::image_sheet::ImageSheetError;
use crate::loss_curves::LossCurvesError;
use crate::metrics::MetricsError;
use crate::run_record::RunRecordError;
use crate::settings::{DeviceChoice, Difference, SettingsError};
use crate::stop_request::StopSignal;
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
    /// A device could not be checked, or some of the checks failed.
    #[error(transparent)]
    GpuCheck(#[from] GpuCheckError),
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
        "{} was started with other settings ({}); resume with the settings in its config.json, name another folder \
         with `--run-dir`, or insist with `--allow-config-change`, which takes all but the model's sizes and the batches",
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
    /// Too many steps in a row gave a loss or a gradient that is not finite; none of them reached the weights.
    #[error(
        "training diverged: {in_row} steps in a row were not finite, the last one step {step} of epoch {epoch} ({cause}); \
         {} has the details and the checkpoints are intact; go back to the best one with `cargo xtask train --run-dir {} \
         --resume --from-best --allow-config-change --learning-rate {}`, or add `--skip-gradient-norm 10` to that",
        .report.display(), .run_dir.display(), .smaller_rate
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: u32,
        /// Step since the run began, from 0.
        step: u64,
        /// Steps in a row that were not finite.
        in_row: u32,
        /// What was not finite.
        cause: String,
        /// `divergence.json`.
        report: PathBuf,
        /// The run folder.
        run_dir: PathBuf,
        /// A tenth of the present learning rate.
        smaller_rate: f64,
    },
    /// Someone asked the run to stop, and it did.
    #[error(
        "stopped by {} after step {step}, with a checkpoint; continue with `cargo xtask train --run-dir {} --resume`",
        .signal.name(), .run_dir.display()
    )]
    Stopped {
        /// Who asked.
        signal: StopSignal,
        /// Steps since the run began.
        step: u64,
        /// The run folder.
        run_dir: PathBuf,
    },
    /// There is no room for what is to be written.
    #[error(
        "the disk is full at {}: {} to be written, {} free; make room, then continue with `cargo xtask train --run-dir \
         {} --resume`",
        .path.display(), size(.needed), size(.available), .run_dir.display()
    )]
    DiskFull {
        /// The file or folder.
        path: PathBuf,
        /// Bytes that will be written there, where known.
        needed: Option<u64>,
        /// Bytes free, where the system tells.
        available: Option<u64>,
        /// The run folder.
        run_dir: PathBuf,
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
    /// Too little data for one batch or one evaluation.
    #[error("the {split} split has no image; raise `--limit-train` or `--limit-test`")]
    EmptySplit {
        /// Its name.
        split: cifar_loader::Split,
    },
    /// Files of a run are not what the run wrote.
    #[error(
        "{problems} of the files of {} are damaged; newest intact checkpoint: {newest}; `cargo xtask train --run-dir {} \
         --resume` continues from it",
        .path.display(), .path.display()
    )]
    RunDamaged {
        /// The run folder.
        path: PathBuf,
        /// How many.
        problems: usize,
        /// The position of the newest intact checkpoint, or `none`.
        newest: String,
        /// That of the first problem.
        exit_code: u8,
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
        "PyTorch did not run ({reason}); install it with `pip install torch numpy`, or leave out the flag that \
         names that Python"
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
            | TrainerError::RunFolderInUse { .. }
            | TrainerError::RunFolderLocked { .. }
            | TrainerError::NoRun { .. }
            | TrainerError::SettingsChanged { .. }
            | TrainerError::DataChanged { .. }
            | TrainerError::EmptySplit { .. }
            | TrainerError::UnknownMemory { .. }
            | TrainerError::Pytorch { .. } => 2,
            TrainerError::Data(error) => error.exit_code(),
            TrainerError::RunRecord(error) => error.exit_code(),
            TrainerError::Sweep(error) => error.exit_code(),
            TrainerError::GpuCheck(error) => error.exit_code(),
            TrainerError::Checkpoint(_) => 20,
            TrainerError::RunDamaged { exit_code, .. } => *exit_code,
            TrainerError::Stopped { signal, .. } => 128 + signal.number(),
            TrainerError::Metrics(_)
            | TrainerError::Picture(_)
            | TrainerError::LossCurves(_)
            | TrainerError::File { .. }
            | TrainerError::DiskFull { .. } => 21,
            TrainerError::Diverged { .. } => 30,
            TrainerError::OutOfMemory { .. } => 31,
            TrainerError::DeviceLost { .. } | TrainerError::DeviceUnavailable { .. } => 32,
        }
    }
}

impl TrainerError {
    /// The file that there was no room for, where that is what happened.
    pub(crate) fn full_at(&self) -> Option<&std::path::Path> {
        let (path, cause) = match self {
            TrainerError::File { path, source }
            | TrainerError::Checkpoint(CheckpointError::File { path, source }) => (path, source),
            TrainerError::Metrics(MetricsError::Unwritable { path, cause })
            | TrainerError::Picture(ImageSheetError::Unwritable { path, cause })
            | TrainerError::LossCurves(LossCurvesError::Unwritable { path, cause }) => {
                (path, cause)
            }
            _ => return None,
        };
        crate::disk::is_full(cause).then_some(path)
    }
}

fn size(bytes: &Option<u64>) -> String {
    bytes.map_or_else(|| "an unknown amount".to_owned(), crate::disk::amount)
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
