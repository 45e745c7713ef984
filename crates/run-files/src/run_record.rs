//! A finished run, read back from its folder: what comparisons and reports are made of.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::file_operations::read_at_most;
use crate::metrics::{EpochRow, METRICS_JSONL, MetricsError, TIMING_JSONL, read_rows};
use crate::run_folder::{ENVIRONMENT, RunFolderError, SUMMARY, read_settings};
use crate::settings::{Sampler, Settings};
use crate::shell::quoted_path;

#[doc(hidden)]
pub mod example;
mod latent_record;
mod latent_statistics;
mod summary;
mod timing;

pub use latent_record::{INTERPOLATIONS, LATENTS, LatentRecord, TRAVERSALS};
pub use latent_statistics::{ACTIVE_ABOVE, LatentStatistics};
pub use summary::{PerNetwork, PerSplit, RunSummary};
pub use timing::RunTiming;

/// Everything that the files of a finished run tell.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The folder.
    pub run_dir: PathBuf,
    /// `config.json`.
    pub settings: Settings,
    /// `environment.json`: versions, commit, command, device, data hash.
    pub environment: Value,
    /// `metrics.jsonl`: every epoch.
    pub rows: Vec<EpochRow>,
    /// `timing.jsonl`, summed up; none where it has no time of an epoch, as where the process was killed just then.
    pub timing: Option<RunTiming>,
    /// `summary.json`.
    pub summary: RunSummary,
    /// `latents.json`, where it was made for the weights of the summary.
    pub latents: Option<LatentRecord>,
}

/// Why a run's folder could not be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunRecordError {
    /// There is no run in the folder, or its configuration is damaged.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// Its rows of metrics could not be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The run was begun and has not ended.
    #[error(
        "the run in {} is not finished; wait for it where it is still training, else finish it with \
         `cargo xtask train --run-dir {} --resume`",
        path.display(), quoted_path(path)
    )]
    Unfinished {
        /// The run folder.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}: {cause}; check the run folder", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file does not hold what a finished run writes there.
    #[error(
        "{} is not what a finished run writes: {reason}; resume the run, which writes it anew, or restore it from a copy",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl RunRecordError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Folder(error) => error.exit_code(),
            Self::Unfinished { .. } => 2,
            Self::Metrics(_) | Self::Unreadable { .. } | Self::Malformed { .. } => 21,
        }
    }
}

impl RunRecord {
    /// Reads the folder of a finished run.
    ///
    /// # Errors
    /// [`RunFolderError::NoRun`] where no run was begun, [`RunRecordError::Unfinished`] where it has not ended, and errors
    /// that name the file where one is missing or damaged.
    pub fn read(run_dir: &Path) -> Result<Self, RunRecordError> {
        let settings = read_settings(run_dir)?;
        let summary_path = run_dir.join(SUMMARY);
        if !summary_path.exists() {
            return Err(RunRecordError::Unfinished {
                path: run_dir.to_owned(),
            });
        }
        let mut summary = RunSummary::from_json(&read_json(&summary_path)?)
            .map_err(|reason| malformed(&summary_path, reason))?;
        let mut rows = read_rows(&run_dir.join(METRICS_JSONL))?;
        // A run that was resumed for more epochs still has the summary of its first end.
        // As text, in which one NaN is like another.
        let text = |row: &EpochRow| format!("{row:?}");
        let is_of_the_last_row = rows.last().map(text) == Some(text(&summary.last));
        let has_ended = summary.stopped_early || summary.last.epoch >= settings.epochs;
        if !(is_of_the_last_row && has_ended) {
            return Err(RunRecordError::Unfinished {
                path: run_dir.to_owned(),
            });
        }
        if settings.sampler == Sampler::Blog {
            // Older programs gave them whatever the sampler.
            summary.test_bits_per_dim = None;
            let of_summary = [&mut summary.best, &mut summary.last];
            for row in rows.iter_mut().chain(of_summary) {
                row.optional.forget_bounds();
            }
        }
        let timing = RunTiming::from_lines(
            &read(&run_dir.join(TIMING_JSONL))?,
            summary.images.train,
            settings.batch_size,
            summary.last.epoch,
        );
        Ok(Self {
            run_dir: run_dir.to_owned(),
            environment: read_json(&run_dir.join(ENVIRONMENT))?,
            rows,
            timing,
            latents: LatentRecord::read(run_dir, summary.best.epoch, settings.sampler),
            settings,
            summary,
        })
    }
}

/// No file of a run that is text comes near this size, in bytes.
const LARGEST: u64 = 1 << 28;

fn read(path: &Path) -> Result<String, RunRecordError> {
    // A line that a killed process wrote half of may end within a character.
    let bytes = read_at_most(path, LARGEST).map_err(|cause| RunRecordError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_json(path: &Path) -> Result<Value, RunRecordError> {
    serde_json::from_str(&read(path)?).map_err(|error| malformed(path, error.to_string()))
}

fn malformed(path: &Path, reason: String) -> RunRecordError {
    RunRecordError::Malformed {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
