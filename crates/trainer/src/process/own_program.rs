//! This program, started once more, and what it says when it fails.

use std::path::Path;
use std::process::Command;

/// This program. On Linux through the running process, so that a program that was built anew meanwhile neither mixes two
/// versions nor stops what goes on.
pub(crate) fn this_program() -> Command {
    let running = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        let mut command = Command::new(running);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::arg0(&mut command, env!("CARGO_PKG_NAME"));
        return command;
    }
    Command::new(std::env::current_exe().unwrap_or_else(|_| env!("CARGO_PKG_NAME").into()))
}

/// The last line that says why: the error of the program, or what a panic says, or whatever came last.
pub(crate) fn last_message(stderr: &[String]) -> String {
    let lines = || stderr.iter().map(|line| line.trim());
    let error = lines().rev().find_map(|line| line.strip_prefix("error: "));
    let panic = lines()
        .zip(lines().skip(1))
        .filter(|(line, _)| line.contains("panicked at"))
        .map(|(_, message)| message)
        .next_back();
    let last = lines().rev().find(|line| !line.is_empty());
    error
        .or(panic)
        .or(last)
        .unwrap_or("it said nothing")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lines: &[&str]) -> String {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        last_message(&lines)
    }

    #[test]
    fn the_message_is_the_error_or_the_panic_or_the_last_line() {
        assert_eq!(
            message(&["a notice", "error: the disk is full", ""]),
            "the disk is full"
        );
        assert_eq!(
            message(&[
                "thread 'main' panicked at src/x.rs:1:2:",
                "index out of bounds",
                "note: run with `RUST_BACKTRACE=1`",
            ]),
            "index out of bounds"
        );
        assert_eq!(message(&["Killed", "  "]), "Killed");
        assert_eq!(message(&[]), "it said nothing");
    }
}
