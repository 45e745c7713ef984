//! Another process of this program that a part starts.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::error::GpuCheckError;
use crate::process::lifeline::LIFELINE;
use crate::process::own_program::last_message;

/// Runs it to its end; every line that it prints goes to `on_line` at once, so that a part that is ended meanwhile has told it.
///
/// # Errors
/// Where it cannot be started or fails.
pub(super) fn watch(
    mut command: Command,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), GpuCheckError> {
    let mut child = command
        // This process's own stdin is watched; the other one's is empty.
        .env_remove(LIFELINE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GpuCheckError::NotStarted)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = std::thread::spawn(move || {
        let lines = stderr.map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok));
        lines.into_iter().flatten().collect::<Vec<String>>()
    });
    let lines = stdout.map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
    for line in lines.into_iter().flatten() {
        on_line(&line);
    }
    let status = child.wait().map_err(GpuCheckError::NotStarted)?;
    let messages = messages.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(GpuCheckError::Start {
        reason: last_message(&messages),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Result<(), GpuCheckError>, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let ended = watch(command, &mut |line| lines.push(line.to_owned()));
        (ended, lines)
    }

    #[test]
    fn its_lines_are_told_however_it_ends_and_a_failure_has_its_reason() {
        let (ended, lines) = shell("echo one; echo two");
        ended.expect("no failure");
        assert_eq!(lines, ["one", "two"]);
        let (ended, lines) = shell("echo one; echo 'error: no card' >&2; exit 32");
        assert_eq!(lines, ["one"]);
        let text = ended.expect_err("a failure").to_string();
        assert!(text.ends_with("no card"), "{text}");
    }
}
