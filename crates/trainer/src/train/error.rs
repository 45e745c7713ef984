//! What can stop a training.

use std::path::{Path, PathBuf};

use crate::device::DeviceError;
use crate::experiment::ExperimentError;
use crate::process::stop_request::StopSignal;
use crate::ranks::RanksError;
use run_files::checkpoint::CheckpointError;
use run_files::metrics::MetricsError;
use run_files::run_folder::RunFolderError;
use run_files::settings::{Difference, Key};
use run_files::shell::quoted_path;
use run_report::loss_curves::LossCurvesError;

/// What can stop a training, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The model, its data, its pictures or its weights.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The other ranks.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// The run folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metric files could not be written or read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The loss curves could not be drawn.
    #[error(transparent)]
    LossCurves(#[from] LossCurvesError),
    /// A resumed run would not be the same run.
    #[error(
        "{} was trained with other settings, as its newest checkpoint has them ({}): {}, or undo the change of \
         its config.json; name another folder with `--run-dir`; or insist with `--allow-config-change`, which takes all but \
         the model, the seed and the images",
        .path.display(), list(.differences), cure(.differences)
    )]
    SettingsChanged {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// A resumed run would be another one from its start on.
    #[error(
        "{} was trained with other settings, as its newest checkpoint has them ({}), which no run can change on its way: give those as \
         flags, undo the change of its config.json, or name another folder with `--run-dir`",
        .path.display(), list(.differences)
    )]
    SettingsFixed {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// Too many steps in a row gave a loss or a gradient that is not finite; none of them reached the weights.
    #[error(
        "training diverged: {in_row} steps in a row were not finite, the last one step {step} of epoch {epoch} ({cause}); \
         {} has the details and the checkpoints are intact; go back to the best one with `cargo xtask train --run-dir {} \
         --resume --from-best --allow-config-change --learning-rate {}`, or add `--skip-gradient-norm 10` to that",
        .report.display(), quoted_path(.run_dir), .smaller_rate
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
        .signal.name(), quoted_path(.run_dir)
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
        "the disk is full at {}: {} to be written, {} free; make room, then {}",
        .path.display(), size(.needed), size(.available), after_making_room(.run_dir, *.is_begun)
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
        /// Whether it has the run's settings already.
        is_begun: bool,
    },
    /// A run that was trained has no checkpoint left.
    #[error(
        "{} has {epochs} trained epochs and no checkpoint to continue from; restore its `checkpoints` from a copy, name another folder \
         with `--run-dir`, or delete this one to train again",
        .run_dir.display()
    )]
    CheckpointsLost {
        /// The run folder.
        run_dir: PathBuf,
        /// Rows of metrics.
        epochs: usize,
    },
}

impl TrainError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Experiment(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Ranks(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::SettingsChanged { .. } | Self::SettingsFixed { .. } => 2,
            Self::Checkpoint(_) | Self::CheckpointsLost { .. } => 20,
            Self::Metrics(_) | Self::LossCurves(_) | Self::DiskFull { .. } => 21,
            Self::Diverged { .. } => 30,
            Self::Stopped { signal, .. } => signal.exit_code(),
        }
    }

    /// The file that there was no room for, where that is what happened.
    pub(crate) fn full_at(&self) -> Option<&Path> {
        match self {
            Self::Experiment(error) => error.full_at(),
            Self::Folder(error) => error.full_at(),
            Self::Checkpoint(error) => error.full_at(),
            Self::Metrics(error) => error.full_at(),
            Self::LossCurves(error) => error.full_at(),
            _ => None,
        }
    }
}

fn after_making_room(run_dir: &Path, is_begun: bool) -> String {
    if is_begun {
        let run_dir = quoted_path(run_dir);
        format!("continue with `cargo xtask train --run-dir {run_dir} --resume`")
    } else {
        "give the same command again".to_owned()
    }
}

impl From<vae_core::ConfigError> for TrainError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<cifar_loader::Error> for TrainError {
    fn from(error: cifar_loader::Error) -> Self {
        Self::Experiment(error.into())
    }
}

fn size(bytes: &Option<u64>) -> String {
    bytes.map_or_else(|| "an unknown amount".to_owned(), run_files::disk::amount)
}

/// What to do about the differences. A run of one shard has no flag that several ranks could be given, nor has one on three devices.
fn cure(differences: &[Difference]) -> &'static str {
    let are_several = |difference: &Difference| {
        difference.key == Key::Device.name() && difference.before.contains(',')
    };
    if differences.iter().any(are_several) {
        return "go on with as many devices as before, and give any others as flags";
    }
    let is_undivided =
        |difference: &Difference| difference.key == "shards" && difference.before == "1";
    let is_shards = differences.iter().any(is_undivided);
    match (is_shards, differences.len()) {
        (false, _) => "give those as flags",
        (true, 1) => {
            "go on with one rank and one device, which alone can continue a run of one shard"
        }
        (true, _) => {
            "go on with one rank and one device, which alone can continue a run of one shard, and give the others as flags"
        }
    }
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
