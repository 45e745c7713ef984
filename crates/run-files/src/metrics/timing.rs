//! `timing.jsonl`: everything that reads a clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::MetricsError;
use super::writer::ends_a_line;
use crate::files::file_operations::open_no_link;

/// File of everything that reads a clock, in the run folder.
pub const TIMING_JSONL: &str = "timing.jsonl";

/// How long a process took for an epoch, or for its part of one: an epoch that was interrupted and continued has a
/// line from each process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochTiming {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Steps of the epoch that this process made.
    pub train_steps: usize,
    /// Seconds of training, for those steps.
    pub train_seconds: f64,
    /// Seconds of validation; none where the process did not come to it.
    pub valid_seconds: Option<f64>,
    /// Seconds of these until the end of the process's first step, on a device that compiles kernels in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step_seconds: Option<f64>,
    /// Training images a second of training, that first step left out; 0 where no step is left.
    pub images_per_second: f64,
    /// Most memory the process has held so far, in bytes; see [`peak_memory_bytes`].
    pub peak_memory_bytes: Option<u64>,
}

/// Appends JSON objects to `timing.jsonl`; a resumed run goes on after what is there.
#[derive(Debug)]
pub struct TimingWriter {
    path: PathBuf,
    file: File,
    length: u64,
}

impl TimingWriter {
    /// Opens the file in `run_dir`, keeping what it holds.
    ///
    /// # Errors
    /// [`MetricsError::Unwritable`].
    pub fn open(run_dir: &Path) -> Result<Self, MetricsError> {
        let path = run_dir.join(TIMING_JSONL);
        let unwritable = |cause| MetricsError::Unwritable {
            path: path.clone(),
            cause,
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = open_no_link(options, &path).map_err(unwritable)?;
        let mut length = file.metadata().map_err(unwritable)?.len();
        if !ends_a_line(&file, length).map_err(unwritable)? {
            // A killed run left half an object; the next one starts on a line of its own.
            file.write_all(b"\n").map_err(unwritable)?;
            length += 1;
        }
        Ok(Self { path, file, length })
    }

    /// Appends one object, such as an [`EpochTiming`]; where that fails, nothing of it stays, so that it can be tried again.
    ///
    /// # Errors
    /// [`MetricsError::Unwritable`].
    pub fn append(&mut self, entry: &impl Serialize) -> Result<(), MetricsError> {
        let unwritable = |cause| MetricsError::Unwritable {
            path: self.path.clone(),
            cause,
        };
        let line = serde_json::to_string(entry).map_err(io::Error::from);
        let line = line.map_err(unwritable)? + "\n";
        #[cfg(test)]
        let begun =
            crate::files::file_operations::failing::before_write(&mut self.file, line.as_bytes());
        #[cfg(not(test))]
        let begun = Ok(());
        if let Err(cause) = begun.and_then(|()| self.file.write_all(line.as_bytes())) {
            // Half a line would stand before the next one. Where the cut fails, the next resume ends that line.
            let _ = self.file.set_len(self.length);
            return Err(unwritable(cause));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// Most memory this process has held so far, in bytes, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    peak_memory_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_memory_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn timing_appends_after_half_an_object() {
        let folder = tempfile::tempdir().unwrap();
        let timing = EpochTiming {
            epoch: 1,
            train_steps: 8,
            train_seconds: 2.5,
            valid_seconds: Some(0.5),
            first_step_seconds: None,
            images_per_second: 80.0,
            peak_memory_bytes: None,
        };
        TimingWriter::open(folder.path())
            .unwrap()
            .append(&timing)
            .unwrap();
        let path = folder.path().join(TIMING_JSONL);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"ep").unwrap();
        TimingWriter::open(folder.path())
            .unwrap()
            .append(&json!({"event": "resume"}))
            .unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"epoch":1,"train_steps":8,"train_seconds":2.5,"valid_seconds":0.5,"images_per_second":80.0,"#,
                r#""peak_memory_bytes":null}"#,
                "\n{\"ep\n{\"event\":\"resume\"}\n"
            )
        );
    }

    /// A disk that fills up within a line, and a run that waits for room and then writes it again.
    #[test]
    fn a_line_that_found_no_room_leaves_nothing_and_can_be_written_again() {
        use crate::files::file_operations::failing::{Failure, with_failure};
        let folder = tempfile::tempdir().unwrap();
        let mut timing = TimingWriter::open(folder.path()).unwrap();
        let entry = |epoch: u32| json!({"epoch": epoch, "train_seconds": 2.5});
        timing.append(&entry(1)).unwrap();
        let failed = with_failure(0, Failure::ShortWrite, || timing.append(&entry(2)));
        assert!(failed.unwrap_err().full_at().is_some());
        timing.append(&entry(2)).unwrap();
        let text = fs::read_to_string(folder.path().join(TIMING_JSONL)).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(lines, [entry(1), entry(2)]);
    }

    #[test]
    fn peak_memory_is_read_in_bytes() {
        assert_eq!(
            peak_memory_in("VmPeak:\t 9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"),
            Some(12345 * 1024)
        );
        assert_eq!(peak_memory_in("VmHWM: many kB"), None);
        assert_eq!(peak_memory_in(""), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory_bytes().unwrap() > 100_000);
        }
    }
}
