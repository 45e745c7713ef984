//! `report.html`: a run or a sweep as one file that opens anywhere, with no network and no script.

use std::io;
use std::path::{Path, PathBuf};

use run_files::atomic_file::write_atomically;
use run_files::output_file::write_output;
use run_files::run_record::RunRecord;

mod configuration;
mod contents;
mod drawing;
mod escape;
mod page;
mod picture;
mod run_page;
mod spectrum;
mod sweep_charts;
mod sweep_page;

pub use contents::{ReportGroup, ReportTable, SweepReport};

/// Name of a report in its folder.
pub const REPORT: &str = "report.html";

/// A page that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; check the folder's permissions and the free space", .path.display())]
pub struct ReportError {
    /// The page.
    pub path: PathBuf,
    /// What the system reported.
    pub r#source: io::Error,
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

/// Writes the report of a run to a file that the user named, which may be a link, a pipe or a device.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_run_report_to(out: &Path, record: &RunRecord) -> Result<(), ReportError> {
    let html = run_page::render(record);
    write_output(out, html.as_bytes()).map_err(|source| ReportError {
        path: out.to_owned(),
        source,
    })
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
