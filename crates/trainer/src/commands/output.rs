//! What a command prints.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::error::TrainerError;

/// Writes the result of a command to standard output, all of it.
///
/// # Errors
/// [`TrainerError::Output`] where nobody can have it, which `println!` would answer with a panic.
pub(super) fn print(text: &str) -> Result<(), TrainerError> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| TrainerError::Output { source })
}

/// Prints where a result was written. Nothing of a pipe or a device, which may be this very output.
///
/// # Errors
/// As [`print`].
pub(super) fn print_place(path: &Path) -> Result<(), TrainerError> {
    let has_place = std::fs::metadata(path).map_or(true, |found| found.is_file() || found.is_dir());
    if has_place {
        print_line(path.display())
    } else {
        Ok(())
    }
}

/// Prints a result for programs, as JSON over several lines.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(result: &impl Serialize) -> Result<(), TrainerError> {
    let json = serde_json::to_string_pretty(result);
    print_line(json.expect("results have names, numbers and lists only"))
}

/// As [`print`], and ends the line.
///
/// # Errors
/// As [`print`].
pub(super) fn print_line(line: impl std::fmt::Display) -> Result<(), TrainerError> {
    print(&format!("{line}\n"))
}
