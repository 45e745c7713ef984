//! What can stop a command: the errors of the rooms below, each with the next step in its message.

use std::path::{Path, PathBuf};

use crate::device::DeviceError;
use crate::experiment::ExperimentError;
use crate::experiment::prior::PriorError;
use crate::gpu_check::GpuCheckError;
use crate::sweep::SweepError;
use crate::timing::TimingError;
use crate::train::TrainError;
use run_files::checkpoint::CheckpointError;
use run_files::run_folder::RunFolderError;
use run_files::run_record::RunRecordError;
use run_files::settings::SettingsError;
use run_files::shell::quoted_path;
use run_report::image_sheet::ImageSheetError;
use run_report::report::ReportError;

/// What can stop a command, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainerError {
    /// A setting is unknown or impossible.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The model, its data, its pictures or its weights.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// A device cannot be used, or no longer.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A step could not be timed.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// A training could not be begun, or stopped.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A sweep could not be made, or some of its runs failed.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A device could not be checked, or some of the checks failed.
    #[error(transparent)]
    GpuCheck(#[from] GpuCheckError),
    /// A run's folder could not be taken, written or read.
    #[error(transparent)]
    RunFolder(#[from] RunFolderError),
    /// A finished run could not be read back.
    #[error(transparent)]
    RunRecord(#[from] RunRecordError),
    /// A page could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A rank of a run ends with an error that has been printed, perhaps by another rank.
    #[error("another rank has said why")]
    Said {
        /// Of all ranks.
        exit_code: u8,
    },
    /// The result of a command could not be printed.
    #[error(
        "standard output cannot be written: {source}; send it elsewhere, and run the command again"
    )]
    Output {
        /// What the system reported.
        r#source: std::io::Error,
    },
    /// A command would write over the file that it reads.
    #[error("`--out {}` is the picture that `--image` names; name another file", .path.display())]
    OutIsImage {
        /// The file.
        path: PathBuf,
    },
    /// A flag's value does not fit the run or the data.
    #[error("`{flag} {given}`: {reason}")]
    UnfittingFlag {
        /// The flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// Why it does not fit, and what would.
        reason: String,
    },
    /// The program's own bounds do not hold on a model whose likelihood is known.
    #[error(
        "{failed} of {checks} checks failed: numbers of this program on this device cannot be trusted"
    )]
    SelfTest {
        /// Checks that failed.
        failed: usize,
        /// All.
        checks: usize,
    },
    /// Files of a run are not what the run wrote.
    #[error(
        "{problems} of the files of {} are damaged; {}",
        .path.display(), way_on(.path, newest.as_deref())
    )]
    RunDamaged {
        /// The run folder.
        path: PathBuf,
        /// How many.
        problems: usize,
        /// The position of the newest intact checkpoint.
        newest: Option<String>,
        /// That of the first problem.
        exit_code: u8,
    },
}

impl TrainerError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::OutIsImage { .. } => 2,
            Self::Experiment(error) => error.exit_code(),
            Self::Device(error) => error.exit_code(),
            Self::Timing(error) => error.exit_code(),
            Self::Train(error) => error.exit_code(),
            Self::Sweep(error) => error.exit_code(),
            Self::GpuCheck(error) => error.exit_code(),
            Self::RunFolder(error) => error.exit_code(),
            Self::RunRecord(error) => error.exit_code(),
            Self::Report(_) | Self::Output { .. } => 21,
            Self::UnfittingFlag { .. } => 2,
            Self::SelfTest { .. } => 1,
            Self::RunDamaged { exit_code, .. } | Self::Said { exit_code } => *exit_code,
        }
    }
}

fn way_on(run_dir: &Path, newest: Option<&str>) -> String {
    match newest {
        Some(newest) => format!(
            "newest intact checkpoint: {newest}; `cargo xtask train --run-dir {} --resume` continues from it",
            quoted_path(run_dir)
        ),
        None => "no checkpoint is intact: restore one from a copy, or delete the folder to train from the start".to_owned(),
    }
}

impl From<vae_core::ConfigError> for TrainerError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<cifar_loader::Error> for TrainerError {
    fn from(error: cifar_loader::Error) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<CheckpointError> for TrainerError {
    fn from(error: CheckpointError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<ImageSheetError> for TrainerError {
    fn from(error: ImageSheetError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<PriorError> for TrainerError {
    fn from(error: PriorError) -> Self {
        Self::Experiment(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::io;

    use crate::experiment::weights::WeightsError;

    /// One of each kind that holds the error which caused it.
    fn with_causes() -> Vec<Box<dyn Error>> {
        let path = || PathBuf::from("p");
        let source = || io::Error::other("the cause");
        let weights = || WeightsError::Missing { name: "w".into() };
        vec![
            Box::new(TrainerError::Output { source: source() }),
            Box::new(TrainerError::from(cifar_loader::Error::Read {
                path: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(cifar_loader::Error::Write {
                path: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(RunFolderError::File {
                path: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(CheckpointError::File {
                path: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(CheckpointError::Weights {
                path: path(),
                source: weights(),
            })),
            Box::new(TrainerError::from(SweepError::NotStarted {
                run_dir: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(ReportError {
                path: path(),
                source: source(),
            })),
            Box::new(TrainerError::from(ExperimentError::ExportedWeights {
                path: path(),
                source: weights(),
            })),
            Box::new(inception_features::WeightsError::Unreadable {
                path: path(),
                source: source(),
            }),
        ]
    }

    #[test]
    fn no_error_says_its_cause_twice() {
        for error in with_causes() {
            let text = error.to_string();
            assert!(text.contains("the cause") || text.contains("`w`"), "{text}");
            assert!(error.source().is_none(), "{text}: {:?}", error.source());
        }
    }
}
