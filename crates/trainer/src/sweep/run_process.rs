//! One run as a process of its own: its memory is measured alone, and its crash is its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::error::SweepError;
use crate::process::lifeline::LIFELINE;
use crate::process::own_program::{last_message, this_program};
use run_files::settings::Key;

/// Tells whether the sweep was asked to stop, by the exit code that it then ends with.
pub type StopCheck<'a> = dyn Fn() -> Option<u8> + Sync + 'a;

/// Between two looks at the request to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a run's process ended that did not end well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its exit code; none after a signal.
    pub exit_code: Option<i32>,
    /// How it ended, in the system's words.
    pub status: String,
    /// The last thing it said.
    pub message: String,
}

/// How a run's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// With exit code 0.
    Well,
    /// Because someone asked it to stop; with the exit code that says so.
    Interrupted(u8),
    /// In any other way.
    Failed(Failure),
}

/// Exit code of a program that was stopped from the keyboard (SIGINT).
const STOPPED_AT_KEYBOARD: i32 = 130;
/// Exit code of a program that was asked to end (SIGTERM).
const ASKED_TO_END: i32 = 143;

impl RunEnd {
    fn of(status: ExitStatus, stderr: &[String]) -> Self {
        if status.success() {
            return Self::Well;
        }
        match exit_code(status) {
            Some(STOPPED_AT_KEYBOARD) => Self::Interrupted(130),
            Some(ASKED_TO_END) => Self::Interrupted(143),
            _ => Self::Failed(Failure {
                exit_code: status.code(),
                status: status.to_string(),
                message: last_message(stderr),
            }),
        }
    }
}

/// The exit code, a signal counted as a shell does: 128 and its number.
fn exit_code(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
    }
    #[cfg(not(unix))]
    {
        status.code()
    }
}

/// Trains, or continues, a run in a process of this program; `on_event` gets the events that it prints. The process is
/// asked to end when `stop` gives an exit code, and when this process ends.
///
/// # Errors
/// [`SweepError::NotStarted`].
pub(super) fn run_process(
    config: &Path,
    run_dir: &Path,
    stop: &StopCheck<'_>,
    on_event: &mut dyn FnMut(&Value),
) -> Result<RunEnd, SweepError> {
    let mut command = this_program();
    command
        .arg("train")
        .arg("--config")
        .arg(config)
        .arg("--run-dir")
        .arg(run_dir)
        .args(["--resume", "--json"])
        .env(LIFELINE, "stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // They would win over the file.
    for name in Key::ALL.into_iter().filter_map(Key::environment) {
        command.env_remove(name);
    }
    let not_started = |source| SweepError::NotStarted {
        run_dir: run_dir.to_owned(),
        source,
    };
    let mut child = command.spawn().map_err(not_started)?;
    let lifeline = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    std::thread::scope(|scope| {
        // Dropped where the process has ended, which ends the watch.
        let (_running, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout)
                && stop().is_none()
            {}
            // The process takes the end of its stdin as a request to end.
            drop(lifeline);
        });
        let stderr = scope.spawn(move || {
            let lines = BufReader::new(stderr?).lines().map_while(Result::ok);
            Some(lines.collect::<Vec<String>>())
        });
        for line in stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok))
        {
            if let Ok(event) = serde_json::from_str(&line) {
                on_event(&event);
            }
        }
        let status = child.wait().map_err(not_started)?;
        let stderr = stderr.join().ok().flatten();
        Ok(RunEnd::of(status, &stderr.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn being_asked_to_stop_is_no_failure() {
        use std::os::unix::process::ExitStatusExt;
        // The form of `wait`: the exit code in the second byte, or the signal in the first.
        let end = |wait_status| RunEnd::of(ExitStatus::from_raw(wait_status), &[]);
        assert_eq!(end(0), RunEnd::Well);
        assert_eq!(end(2), RunEnd::Interrupted(130));
        assert_eq!(end(130 << 8), RunEnd::Interrupted(130));
        assert_eq!(end(15), RunEnd::Interrupted(143));
        assert_eq!(end(143 << 8), RunEnd::Interrupted(143));
        let RunEnd::Failed(failure) = end(9) else {
            panic!("a killed run has failed");
        };
        assert_eq!(failure.exit_code, None);
        assert!(failure.status.contains('9'), "{}", failure.status);
        let RunEnd::Failed(failure) = end(30 << 8) else {
            panic!("a diverged run has failed");
        };
        assert_eq!(failure.exit_code, Some(30));
    }
}
