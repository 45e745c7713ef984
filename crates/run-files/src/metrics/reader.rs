//! Reading the rows of a run.

use std::io::Read;
use std::path::Path;

use super::error::MetricsError;
use super::row::EpochRow;
use crate::files::file_operations::open_regular;

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
