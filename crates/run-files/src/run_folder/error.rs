//! Why a run's folder could not be taken, written or read.

use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;
use crate::files::disk::is_full;
use crate::settings::{Difference, SettingsError};
use crate::shell::quoted_path;

/// Why a run's folder could not be taken, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// A run is there already.
    #[error(
        "{} holds a run; continue it with `--resume`, or name another folder with `--run-dir`",
        .path.display()
    )]
    InUse {
        /// The run folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("another process is training in {}; wait for it, or name another folder with `--run-dir`", .path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// A file stands where the folder should.
    #[error("{} is a file, and a run has a folder; name another place with `--run-dir`", .path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// There is no finished or running training in the folder.
    #[error("{} holds no {missing}; train there first with `cargo xtask train --run-dir {}`", .path.display(), quoted_path(.path))]
    NoRun {
        /// The run folder.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// A run has checkpoints, and its settings are gone.
    #[error(
        "{} is missing; `cargo xtask train --run-dir {} --resume` writes it anew, from the newest checkpoint, and goes on",
        .path.display(), quoted_path(.path.parent().unwrap_or(.path))
    )]
    ConfigLost {
        /// The `config.json`.
        path: PathBuf,
    },
    /// A run was to be continued, and there is none.
    #[error(
        "there is nothing to resume in {}: check `--run-dir`, or begin a run there with `--resume=or-start`",
        .path.display()
    )]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// The settings beside a checkpoint are not those that it was made with.
    #[error(
        "{} was edited: the newest checkpoint was made with other settings ({}, in the order checkpoint -> file); undo that, \
         the checkpoints are fine",
        .path.display(), list(.differences)
    )]
    ConfigEdited {
        /// The `config.json`.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// A run folder leads out of itself.
    #[error("{} is a symbolic link, through which files elsewhere would change; remove it, or copy what it stands for there", .path.display())]
    LinkInside {
        /// The link.
        path: PathBuf,
    },
    /// A pipe or a device stands where a run writes a file.
    #[error("{} is not a regular file, and a run writes one there; remove it", .path.display())]
    NoRegularFile {
        /// What stands there.
        path: PathBuf,
    },
    /// Its checkpoints could not be looked at.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its `config.json` is damaged.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of the run folder could not be written or read.
    #[error("{}: {source}; check the folder's permissions and the free space", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        r#source: std::io::Error,
    },
}

impl RunFolderError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. }
            | Self::Locked { .. }
            | Self::NotAFolder { .. }
            | Self::NoRun { .. }
            | Self::NothingToResume { .. }
            | Self::ConfigLost { .. }
            | Self::ConfigEdited { .. }
            | Self::LinkInside { .. }
            | Self::NoRegularFile { .. }
            | Self::Settings(_) => 2,
            Self::Checkpoint(_) => 20,
            Self::File { .. } => 21,
        }
    }

    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::File { path, source } if is_full(source) => Some(path),
            _ => None,
        }
    }
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// The error of an operation on `path`, for `map_err`.
pub fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> RunFolderError {
    let path = path.to_owned();
    |source| RunFolderError::File { path, source }
}
