//! What can stop the check of a device.

use std::path::PathBuf;

/// What can stop the check of a device, with the next step in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuCheckError {
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
    #[error("`--budget {seconds}` is no time; give seconds from 0 to a million")]
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
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownPart { .. } | Self::Budget { .. } | Self::OtherResults { .. } => 2,
            Self::NotStarted(_) | Self::PartsFailed { .. } => 1,
        }
    }
}
