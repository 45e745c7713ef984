//! `report.html`: a run or a sweep as one file that opens anywhere, with no network and no script.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic_file::write_atomically;
use crate::run_record::RunRecord;

mod base64;
mod configuration;
mod drawing;
mod page;
mod picture;
mod run_page;
mod spectrum;
mod sweep_charts;
mod sweep_page;
mod wording;

/// Name of a report in its folder.
pub const REPORT: &str = "report.html";

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportTable {
    /// Titles of the columns, with units.
    pub columns: Vec<String>,
    /// Cells, one a column; the first one names the row.
    pub rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// The runs of one model, which differ in their seeds.
#[derive(Clone, Debug)]
pub struct ReportGroup<'a> {
    /// Name of the model, such as "depth 28, no shortcuts".
    pub label: String,
    /// Layers.
    pub depth: u32,
    /// Whether its blocks have shortcuts.
    pub shortcuts: bool,
    /// One a seed; none where all failed.
    pub runs: Vec<&'a RunRecord>,
}

/// What a sweep's report shows, in this order but for the command, which stands with the configuration.
#[derive(Clone, Debug)]
pub struct SweepReport<'a> {
    /// First heading.
    pub title: String,
    /// Paragraphs below it: what was asked, and what can be concluded.
    pub intro: Vec<String>,
    /// Results, one row a group.
    pub table: ReportTable,
    /// Differences between groups, with confidence intervals.
    pub comparisons: ReportTable,
    /// Published results beside these, where the protocol is theirs.
    pub published: Option<ReportTable>,
    /// A sentence for each run that failed.
    pub failed: Vec<String>,
    /// The runs.
    pub groups: Vec<ReportGroup<'a>>,
    /// What was typed.
    pub command: String,
}

/// A page that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; check the folder's permissions and the free space", .path.display())]
pub struct ReportError {
    /// The page.
    pub path: PathBuf,
    /// What the system reported.
    pub source: io::Error,
}

/// Writes the report of one run, atomically; equal runs that took equal time give equal bytes.
///
/// A picture that is missing from the run's folder is said to be missing.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_run_report(path: &Path, record: &RunRecord) -> Result<(), ReportError> {
    write(path, &run_page::render(record))
}

/// Writes the report of a sweep, atomically.
///
/// A picture that is missing from a run's folder is said to be missing.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_sweep_report(path: &Path, report: &SweepReport<'_>) -> Result<(), ReportError> {
    write(path, &sweep_page::render(report))
}

fn write(path: &Path, html: &str) -> Result<(), ReportError> {
    write_atomically(path, html.as_bytes()).map_err(|source| ReportError {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
