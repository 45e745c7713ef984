//! What can stop a sweep.

use std::path::PathBuf;

use crate::experiment::ExperimentError;
use run_files::run_folder::RunFolderError;
use run_files::settings::SettingsError;
use run_report::report::ReportError;

/// What can stop a sweep, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The model or its data.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// A setting is unknown or impossible.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of the sweep could not be written.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The report could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// No run was asked for.
    #[error(
        "this sweep has no run; give at least one depth with `--depths` and one seed with `--seeds`"
    )]
    NothingToDo,
    /// A depth is listed twice.
    #[error("depth {depth} is listed twice; list each depth once in `--depths`")]
    RepeatedDepth {
        /// The depth.
        depth: u32,
    },
    /// Another process works in the folder.
    #[error("another sweep is running in {}; wait for it, or name another folder with `--out`", .path.display())]
    Locked {
        /// The sweep's folder.
        path: PathBuf,
    },
    /// A run's process could not be started or waited for.
    #[error(
        "the process of the run in {} could not be started: {source}; the same command goes on from there",
        .run_dir.display()
    )]
    NotStarted {
        /// The run folder.
        run_dir: PathBuf,
        /// What the system reported.
        r#source: std::io::Error,
    },
    /// The run in progress was asked to stop.
    #[error("stopped; the same command goes on from there")]
    Interrupted {
        /// 128 and the number of the signal.
        exit_code: u8,
    },
    /// The sweep is through, and some of its runs failed.
    #[error(
        "{failed} of {total} runs failed; {} holds the others and says why; the same command tries the failed ones again",
        .table.display()
    )]
    FailedRuns {
        /// Runs that failed.
        failed: usize,
        /// Runs of the sweep.
        total: usize,
        /// The table.
        table: PathBuf,
    },
}

impl SweepError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Experiment(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::Settings(_)
            | Self::NothingToDo
            | Self::RepeatedDepth { .. }
            | Self::Locked { .. } => 2,
            Self::Report(_) | Self::NotStarted { .. } => 21,
            Self::Interrupted { exit_code } => *exit_code,
            Self::FailedRuns { .. } => 40,
        }
    }
}

impl From<vae_core::ConfigError> for SweepError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Experiment(error.into())
    }
}

impl From<cifar_loader::Error> for SweepError {
    fn from(error: cifar_loader::Error) -> Self {
        Self::Experiment(error.into())
    }
}
