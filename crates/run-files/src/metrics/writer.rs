//! Writing `metrics.jsonl` and `metrics.csv`, row by row and after an interruption.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::MetricsError;
use super::row::EpochRow;
use crate::files::atomic_file::write_atomically;
use crate::files::file_operations::open_no_link;

/// File of one JSON object an epoch, in the run folder.
pub const METRICS_JSONL: &str = "metrics.jsonl";

/// File of one comma-separated row an epoch, in the run folder.
pub const METRICS_CSV: &str = "metrics.csv";

/// No first line of a file that a run writes comes near this length, in bytes.
const LARGEST_HEADER: u64 = 1 << 16;

/// Byte lengths of the two metrics files after a row; a checkpoint keeps them, so that resuming can cut off later rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsLengths {
    /// Bytes of `metrics.jsonl`.
    pub jsonl: u64,
    /// Bytes of `metrics.csv`.
    pub csv: u64,
}

/// One metrics file, open at its end.
#[derive(Debug)]
struct RowFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl RowFile {
    fn create(path: PathBuf, header: &str) -> Result<Self, MetricsError> {
        write_atomically(&path, header.as_bytes())
            .and_then(|()| OpenOptions::new().append(true).open(&path))
            .map(|file| Self {
                length: header.len() as u64,
                file,
                path: path.clone(),
            })
            .map_err(|cause| MetricsError::Unwritable { path, cause })
    }

    fn truncate(path: PathBuf, length: u64) -> Result<Self, MetricsError> {
        let unwritable = |cause| MetricsError::Unwritable {
            path: path.clone(),
            cause,
        };
        let mut options = OpenOptions::new();
        let file = open_no_link(options.read(true).append(true), &path).map_err(unwritable)?;
        let found = file.metadata().map_err(unwritable)?.len();
        let whole_rows = found >= length && ends_a_line(&file, length).map_err(unwritable)?;
        if !whole_rows {
            return Err(MetricsError::Shortened {
                path,
                expected: length,
                found,
            });
        }
        file.set_len(length)
            .and_then(|()| file.sync_all())
            .map_err(unwritable)?;
        Ok(Self { file, length, path })
    }

    /// The line that names the columns, without its end.
    fn first_line(&self) -> Result<String, MetricsError> {
        let mut line = String::new();
        let read = File::open(&self.path)
            .and_then(|file| BufReader::new(file.take(LARGEST_HEADER)).read_line(&mut line));
        read.map_err(|cause| MetricsError::Unreadable {
            path: self.path.clone(),
            cause,
        })?;
        Ok(line.trim_end().to_owned())
    }

    fn append(&mut self, line: &str) -> Result<(), MetricsError> {
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        written.map_err(|cause| {
            // Half a row would stand before the next one.
            self.cut(self.length);
            MetricsError::Unwritable {
                path: self.path.clone(),
                cause,
            }
        })?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Takes back what was written after `length` bytes. Where that fails, the next resume repairs it.
    fn cut(&mut self, length: u64) {
        let _ = self.file.set_len(length);
        self.length = length;
    }
}

/// Writes `metrics.jsonl` and `metrics.csv`.
#[derive(Debug)]
pub struct MetricsWriter {
    jsonl: RowFile,
    csv: RowFile,
    /// Of `metrics.csv`, by its first line.
    columns: Vec<String>,
}

impl MetricsWriter {
    /// Opens both files in `run_dir`: empty for a new run (`keep` is none), else cut to the recorded lengths.
    ///
    /// # Errors
    /// [`MetricsError::Unwritable`]; [`MetricsError::Shortened`] where the recorded rows are gone.
    pub fn open(run_dir: &Path, keep: Option<MetricsLengths>) -> Result<Self, MetricsError> {
        Self::open_with(run_dir, keep, &[])
    }

    /// As [`open`](Self::open), for rows that have optional metrics: `optional` are their keys, in the order of
    /// `OptionalMetrics::KEYS`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        run_dir: &Path,
        keep: Option<MetricsLengths>,
        optional: &[&str],
    ) -> Result<Self, MetricsError> {
        let (jsonl, csv) = (run_dir.join(METRICS_JSONL), run_dir.join(METRICS_CSV));
        let Some(lengths) = keep else {
            let columns = EpochRow::columns(optional);
            return Ok(Self {
                jsonl: RowFile::create(jsonl, "")?,
                csv: RowFile::create(csv, &format!("{}\n", columns.join(",")))?,
                columns,
            });
        };
        let csv = RowFile::truncate(csv, lengths.csv)?;
        Ok(Self {
            jsonl: RowFile::truncate(jsonl, lengths.jsonl)?,
            columns: csv.first_line()?.split(',').map(str::to_owned).collect(),
            csv,
        })
    }

    /// The byte lengths so far.
    pub fn lengths(&self) -> MetricsLengths {
        MetricsLengths {
            jsonl: self.jsonl.length,
            csv: self.csv.length,
        }
    }

    /// Appends a row to both files and waits until the disk has it; returns the new lengths.
    ///
    /// # Errors
    /// [`MetricsError::Unwritable`].
    pub fn append(&mut self, row: &EpochRow) -> Result<MetricsLengths, MetricsError> {
        let before = self.jsonl.length;
        self.jsonl.append(&row.jsonl_line())?;
        if let Err(error) = self.csv.append(&row.csv_line(&self.columns)) {
            // So that the row can be tried again; a failed cut is repaired by the next resume.
            self.jsonl.cut(before);
            return Err(error);
        }
        Ok(self.lengths())
    }
}

/// Whether the byte before `length` ends a line; nothing at all does.
pub(super) fn ends_a_line(mut file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == *b"\n")
}
