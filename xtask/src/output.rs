//! What a command prints, where a failure has an exit code rather than a panic.

use std::fmt;
use std::io::{self, Write};

/// Exit code where nobody can have the result, as of a full disk behind standard output.
pub(crate) const UNWRITABLE: u8 = 21;

/// Standard output cannot be written.
#[derive(Debug)]
pub(crate) struct OutputError(io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "standard output cannot be written: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// Writes a line of a result.
///
/// # Errors
/// Where nobody can have it, which `println!` would answer with a panic.
pub(crate) fn print_line(line: impl fmt::Display) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(OutputError)
}

/// Writes a line that says how far a command is, which nobody has to read.
pub(crate) fn tell(line: impl fmt::Display) {
    let _ = print_line(line);
}
