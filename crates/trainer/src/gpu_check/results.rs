//! `results.json`: what every part found, written anew after each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::GpuCheckError;
use super::row::Row;

/// How a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Passed,
    Failed,
    NotReached,
}

/// A part and what it found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartResult {
    pub(super) part: String,
    pub(super) outcome: Outcome,
    /// Why it failed.
    pub(super) reason: Option<String>,
    /// From its process's start to its end.
    pub(super) seconds: f64,
    /// What it might have taken, without compiling.
    pub(super) limit_seconds: Option<f64>,
    /// When it ended, in UTC.
    pub(super) date: Option<String>,
    /// The program's version and commit, which may differ between parts made at different times.
    pub(super) program: Option<String>,
    /// What it found, also where it failed later.
    pub(super) rows: Vec<Row>,
}

impl PartResult {
    /// Before anything is known.
    pub(super) fn not_reached(part: String) -> Self {
        Self {
            part,
            outcome: Outcome::NotReached,
            reason: None,
            seconds: 0.0,
            limit_seconds: None,
            date: None,
            program: None,
            rows: Vec::new(),
        }
    }
}

/// Everything found so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    /// As `--device` names it.
    pub(super) device: String,
    pub(super) program_version: String,
    /// Where `cargo xtask` gave it.
    pub(super) commit: Option<String>,
    pub(super) burn_version: String,
    /// When the last part ended, in UTC.
    pub(super) date: String,
    /// Of the last call.
    pub(super) budget_seconds: f64,
    /// Whether everything was made at the small size that a processor takes.
    pub(super) is_tiny: bool,
    /// In their order; those of PyTorch only where it was asked for.
    pub(super) parts: Vec<PartResult>,
}

impl Results {
    /// Reads the results of an earlier call; none where there are none.
    ///
    /// # Errors
    /// [`GpuCheckError::OtherResults`] where they cannot be read or are another device's.
    pub(super) fn read(path: &Path, device: &str) -> Result<Option<Self>, GpuCheckError> {
        let other = |reason: String| GpuCheckError::OtherResults {
            path: path.to_owned(),
            reason,
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(other(format!("cannot be read ({error})"))),
        };
        let results: Self = serde_json::from_slice(&bytes)
            .map_err(|error| other(format!("is no such file ({error})")))?;
        if results.device != device {
            return Err(other(format!("has the results of {}", results.device)));
        }
        Ok(Some(results))
    }

    /// Everything measured, over all parts.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.parts.iter().flat_map(|part| &part.rows)
    }

    /// The names of the parts that ended so.
    pub(super) fn named(&self, outcome: Outcome) -> Vec<&str> {
        let parts = self.parts.iter().filter(|part| part.outcome == outcome);
        parts.map(|part| part.part.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Comparison, ParityRow};
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results.json");
        assert_eq!(Results::read(&path, "cuda:0").expect("no file"), None);
        let mut part = PartResult::not_reached("parity-f32".to_owned());
        part.rows.push(Row::Parity(ParityRow {
            case: "a block".to_owned(),
            comparisons: 3,
            worst: Some(Comparison {
                tensor: "output".to_owned(),
                // Not finite.
                error: None,
                allowed: 1.0 / 3.0,
            }),
            reason: None,
        }));
        let results = Results {
            device: "cuda:0".to_owned(),
            program_version: "0.1.0".to_owned(),
            commit: None,
            burn_version: "0.22.1".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            budget_seconds: 290.0,
            is_tiny: false,
            parts: vec![part],
        };
        let json = serde_json::to_vec_pretty(&results).expect("JSON");
        std::fs::write(&path, json).expect("written");
        let read = Results::read(&path, "cuda:0").expect("readable");
        assert_eq!(read.as_ref(), Some(&results));
        let error = Results::read(&path, "cuda:1").expect_err("another card");
        assert!(error.to_string().contains("results of cuda:0"), "{error}");
        std::fs::write(&path, "{}").expect("written");
        Results::read(&path, "cuda:0").expect_err("no results");
    }
}
