//! Why the files of numbers could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

/// Why the files of numbers could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A file could not be written.
    #[error("cannot write {}: {cause}; check free space and permissions, then continue with --resume", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}: {cause}; check the run folder", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file does not hold what the checkpoint saw written.
    #[error(
        "{} does not hold the {expected} bytes of whole rows that the checkpoint recorded (it has {found}): it was \
         changed from outside; restore it, or start over in a new --run-dir",
        path.display()
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// Bytes recorded.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// A line that is no row.
    #[error("{}, line {line}, is no row of metrics: {reason}; restore the file from a copy", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl MetricsError {
    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::Unwritable { path, cause } if crate::files::disk::is_full(cause) => Some(path),
            _ => None,
        }
    }
}
