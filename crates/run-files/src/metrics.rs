//! The numbers of a run: `metrics.jsonl` and `metrics.csv`, one row an epoch, and `timing.jsonl`.
//!
//! The two metrics files hold nothing that reads a clock, so two runs with one seed write the same bytes; everything
//! that does read one goes to `timing.jsonl`. Numbers are written in the shortest decimal form that reads back to the
//! same bits. JSON has no NaN and no infinity: `metrics.jsonl` writes `null` for them, which every reader takes, and
//! `metrics.csv` writes `NaN`, `inf` or `-inf`, which tells them apart.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::atomic_file::write_atomically;
use crate::file_operations::{open_no_link, open_regular};
use crate::nullable;

mod batch_loss;
mod epoch_rates;
mod further;
mod term_sums;
mod timing;

pub use batch_loss::BatchLoss;
pub use epoch_rates::EpochRates;
pub use further::FurtherNumbers;
pub use term_sums::TermSums;
pub use timing::{EpochTiming, TIMING_JSONL, TimingWriter, peak_memory_bytes};

/// File of one JSON object an epoch, in the run folder.
pub const METRICS_JSONL: &str = "metrics.jsonl";

/// File of one comma-separated row an epoch, in the run folder.
pub const METRICS_CSV: &str = "metrics.csv";

/// The loss of a split and its parts: means over the images, in nats an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// What is minimised: cross-entropy + KL + penalties.
    #[serde(deserialize_with = "nullable::number")]
    pub loss: f64,
    /// Bernoulli cross-entropy summed over the pixels.
    #[serde(deserialize_with = "nullable::number")]
    pub cross_entropy: f64,
    /// Cross-entropy minus the pixel-entropy floor of the split.
    #[serde(deserialize_with = "nullable::number")]
    pub excess: f64,
    /// KL divergence of the posterior from the prior.
    #[serde(deserialize_with = "nullable::number")]
    pub kl: f64,
    /// The two penalties on the heads of the encoder.
    #[serde(deserialize_with = "nullable::number")]
    pub l2: f64,
}

/// The row of one epoch; serde has it as `summary.json` does, [`to_json`](Self::to_json) as `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Mean learning rate of the epoch's steps.
    #[serde(deserialize_with = "nullable::number")]
    pub learning_rate: f64,
    /// Learning rate of the epoch's last step; in rows of older programs the only one they had.
    #[serde(default, deserialize_with = "nullable::number")]
    pub last_learning_rate: f64,
    /// Steps of the epoch that were skipped; their images are not in `train`.
    pub skipped_steps: u32,
    /// Over the training images, while the parameters moved.
    pub train: Terms,
    /// Over the validation images, after the epoch.
    pub valid: Terms,
    /// What the run's settings ask for besides.
    #[serde(flatten)]
    pub further: FurtherNumbers,
}

impl EpochRow {
    /// Keys of the numbers after `epoch` and before `skipped_steps`, in the order of the columns.
    pub const KEYS: [&'static str; 12] = [
        "train/loss",
        "train/cross_entropy",
        "train/excess",
        "train/kl",
        "train/l2",
        "valid/loss",
        "valid/cross_entropy",
        "valid/excess",
        "valid/kl",
        "valid/l2",
        "learning_rate",
        "last_learning_rate",
    ];

    /// The numbers of [`Self::KEYS`], in their order.
    pub fn numbers(&self) -> [f64; 12] {
        let Self { train, valid, .. } = self;
        [
            train.loss,
            train.cross_entropy,
            train.excess,
            train.kl,
            train.l2,
            valid.loss,
            valid.cross_entropy,
            valid.excess,
            valid.kl,
            valid.l2,
            self.learning_rate,
            self.last_learning_rate,
        ]
    }

    /// The row as a JSON object with `epoch`, [`Self::KEYS`], `skipped_steps` and the further numbers that there are; a number
    /// that is not finite becomes `null`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("epoch".to_owned(), self.epoch.into());
        for (key, number) in Self::KEYS.into_iter().zip(self.numbers()) {
            object.insert(key.to_owned(), number.into());
        }
        object.insert("skipped_steps".to_owned(), self.skipped_steps.into());
        for (key, number) in self.further.present() {
            object.insert(key.to_owned(), number.into());
        }
        object
    }

    fn from_json(object: &Map<String, Value>) -> Result<Self, String> {
        let integer = |key: &str| {
            let value = object.get(key).and_then(Value::as_u64);
            value
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| format!("`{key}` is no number from 0"))
        };
        let number = |key: &str| match object.get(key) {
            Some(Value::Null) => Ok(f64::NAN),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| format!("`{key}` is no number")),
            None => Err(format!("`{key}` is missing")),
        };
        let terms = |split: &str| {
            Ok::<_, String>(Terms {
                loss: number(&format!("{split}/loss"))?,
                cross_entropy: number(&format!("{split}/cross_entropy"))?,
                excess: number(&format!("{split}/excess"))?,
                kl: number(&format!("{split}/kl"))?,
                l2: number(&format!("{split}/l2"))?,
            })
        };
        Ok(Self {
            epoch: integer("epoch")?,
            train: terms("train")?,
            valid: terms("valid")?,
            learning_rate: number("learning_rate")?,
            // Rows of older programs have one rate.
            last_learning_rate: number(if object.contains_key("last_learning_rate") {
                "last_learning_rate"
            } else {
                "learning_rate"
            })?,
            skipped_steps: integer("skipped_steps")?,
            further: FurtherNumbers::from_values(|key| {
                object.contains_key(key).then(|| number(key)).transpose()
            })?,
        })
    }

    fn jsonl_line(&self) -> String {
        format!("{}\n", Value::Object(self.to_json()))
    }

    /// The row in the columns of a file, which an older program may have begun; a column that this one does not know is NaN.
    fn csv_line(&self, columns: &[String]) -> String {
        let numbers = self.numbers();
        let cell = |column: &String| match column.as_str() {
            "epoch" => self.epoch.to_string(),
            "skipped_steps" => self.skipped_steps.to_string(),
            name => {
                let position = Self::KEYS.iter().position(|key| *key == name);
                let further = || self.further.present().find(|(key, _)| *key == name);
                let number = match position {
                    Some(position) => numbers[position],
                    None => further().map_or(f64::NAN, |(_, number)| number),
                };
                // `{:?}` is the standard library's shortest form that reads back to the same bits.
                format!("{number:?}")
            }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        format!("{}\n", cells.join(","))
    }

    /// Whether a cell of `metrics.csv` holds this row's number of that column; of a column that this program does not know, it does.
    pub fn agrees(&self, column: &str, cell: &str) -> bool {
        let integer = |expected: u32| cell.parse() == Ok(expected);
        match column {
            "epoch" => integer(self.epoch),
            "skipped_steps" => integer(self.skipped_steps),
            name => {
                let position = Self::KEYS.iter().position(|key| *key == name);
                let further = || self.further.present().find(|(key, _)| *key == name);
                let expected = position
                    .map(|position| self.numbers()[position])
                    .or_else(|| further().map(|(_, number)| number));
                expected.is_none_or(|expected| {
                    // JSON has one word for all that is not finite.
                    cell.parse::<f64>().is_ok_and(|found| {
                        found == expected || !found.is_finite() && !expected.is_finite()
                    })
                })
            }
        }
    }

    /// The columns of a new `metrics.csv` with these further numbers.
    fn columns(further: &[&str]) -> Vec<String> {
        let names = std::iter::once("epoch").chain(Self::KEYS);
        let names = names
            .chain(["skipped_steps"])
            .chain(further.iter().copied());
        names.map(str::to_owned).collect()
    }
}

/// Byte lengths of the two metrics files after a row; a checkpoint keeps them, so that resuming can cut off later rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsLengths {
    /// Bytes of `metrics.jsonl`.
    pub jsonl: u64,
    /// Bytes of `metrics.csv`.
    pub csv: u64,
}

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
            Self::Unwritable { path, cause } if crate::disk::is_full(cause) => Some(path),
            _ => None,
        }
    }
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

    /// As [`open`](Self::open), for rows that have further numbers: `further` are their keys, in the order of
    /// [`FurtherNumbers::KEYS`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        run_dir: &Path,
        keep: Option<MetricsLengths>,
        further: &[&str],
    ) -> Result<Self, MetricsError> {
        let (jsonl, csv) = (run_dir.join(METRICS_JSONL), run_dir.join(METRICS_CSV));
        let Some(lengths) = keep else {
            let columns = EpochRow::columns(further);
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

/// No first line of a file that a run writes comes near this length, in bytes.
const LARGEST_HEADER: u64 = 1 << 16;

/// No file of metrics that a run writes comes near this size, in bytes.
const LARGEST_JSONL: u64 = 1 << 28;

/// Reads the rows of a `metrics.jsonl`; `null` reads as NaN.
///
/// A last line without its newline is left out: a run that was killed there had not finished writing it.
///
/// # Errors
/// [`MetricsError::Unreadable`] or [`MetricsError::Malformed`].
pub fn read_rows(path: &Path) -> Result<Vec<EpochRow>, MetricsError> {
    let mut text = String::new();
    let read =
        open_regular(path).and_then(|file| file.take(LARGEST_JSONL).read_to_string(&mut text));
    read.map_err(|cause| MetricsError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let rows = whole.lines().zip(1..).map(|(line, number)| {
        serde_json::from_str(line)
            .map_err(|error| error.to_string())
            .and_then(|object| EpochRow::from_json(&object))
            .map_err(|reason| MetricsError::Malformed {
                path: path.to_owned(),
                line: number,
                reason,
            })
    });
    rows.collect()
}

/// Whether the byte before `length` ends a line; nothing at all does.
fn ends_a_line(mut file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == *b"\n")
}

#[cfg(test)]
mod tests;
