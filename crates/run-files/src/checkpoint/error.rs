//! What can go wrong with a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use crate::weights::WeightsError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("checkpoint {}: {source}; check the folder's permissions and the free space, then resume with `--resume`", .path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// What the system reported.
        r#source: io::Error,
    },
    /// A file is not what the manifest says.
    #[error("checkpoint file {}: expected {expected}, found {found}; delete the checkpoint's folder and resume with `--resume`", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// By the manifest.
        expected: String,
        /// On disk.
        found: String,
    },
    /// Tensors are not those of the model.
    #[error("checkpoint file {}: {source}; delete the checkpoint's folder and resume with `--resume`", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        r#source: WeightsError,
    },
    /// No checkpoint passes its manifest.
    #[error(
        "no checkpoint in {} is intact; the newest failed with: {newest}; delete the folder to train from the start",
        .folder.display()
    )]
    NoneIntact {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// The newest one's error.
        newest: Box<CheckpointError>,
    },
}

impl CheckpointError {
    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::File { path, source } if crate::files::disk::is_full(source) => Some(path),
            _ => None,
        }
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    |source| CheckpointError::File { path, source }
}

pub(super) fn corrupt(
    path: PathBuf,
    expected: impl ToString,
    found: impl ToString,
) -> CheckpointError {
    CheckpointError::Corrupt {
        path,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
