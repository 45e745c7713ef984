//! A part as a process of its own: what it does to the device, its memory and its end are its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::budget::Share;
use super::error::GpuCheckError;
use super::part_clock::PartClock;
use super::row::Row;
use crate::device::kernel_names::{NAMES_KERNELS, compiled_kernel};
use crate::process::lifeline::LIFELINE;
use crate::process::own_program::last_message;

/// Between two looks whether a process that said its last has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// For a killed process to end: one that the driver holds in the kernel does not.
const TO_END: Duration = Duration::from_secs(5);

/// What came of a part's process.
#[derive(Debug)]
pub(super) struct Made {
    /// What it printed before it ended, however it ended.
    pub(super) rows: Vec<Row>,
    /// Why it did not end well.
    pub(super) reason: Option<String>,
}

/// Runs a command that prints rows, and ends it and what it started where it takes longer than its share.
///
/// # Errors
/// [`GpuCheckError::NotStarted`].
pub(super) fn run(mut command: Command, share: Share) -> Result<Made, GpuCheckError> {
    let mut clock = PartClock::start(share, Instant::now());
    command
        .env(LIFELINE, "stdin")
        .env(NAMES_KERNELS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own, so that a PyTorch that it started can be ended with it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(GpuCheckError::NotStarted)?;
    // Closed by the system where this process ends, at which the child ends too.
    let _lifeline = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines())
        {
            // Nobody listens any more where the time was up.
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let messages = std::thread::spawn(move || {
        let lines = stderr.map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok));
        lines.into_iter().flatten().collect::<Vec<String>>()
    });

    let mut rows = Vec::new();
    let mut stage: Option<String> = None;
    let mut kernel: Option<String> = None;
    let left = |clock: &PartClock| clock.end().saturating_duration_since(Instant::now());
    let is_late = loop {
        match lines.recv_timeout(left(&clock)) {
            Ok(line) => match serde_json::from_str::<Row>(&line) {
                Ok(Row::Stage(row)) => {
                    clock.turn(row.compiles, Instant::now());
                    (stage, kernel) = (Some(row.stage), None);
                }
                Ok(row) => rows.push(row),
                // What libraries print besides is no row.
                Err(_) => {
                    if let Some(name) = compiled_kernel(&line) {
                        clock.turn(true, Instant::now());
                        kernel = Some(format!("the last kernel it began to compile: {name}"));
                    }
                }
            },
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    let is_late = is_late || !ends_within(&mut child, left(&clock));
    let stood: Vec<String> = stage.into_iter().chain(kernel).collect();
    let mut not_done = format!("not done within its {}", clock.exceeded(Instant::now()));
    if !stood.is_empty() {
        not_done += &format!("; it stood at: {}", stood.join(", "));
    }
    if is_late {
        end_group(&mut child);
        if !ends_within(&mut child, TO_END) {
            // Nor do the threads that read what it prints.
            let reason = Some(format!("{not_done}; its process cannot be ended"));
            return Ok(Made { rows, reason });
        }
    }
    let status = child.wait().map_err(GpuCheckError::NotStarted)?;
    if !status.success() {
        // What it started would go on, and keep the device busy.
        end_group(&mut child);
    }
    let _ = reader.join();
    let messages = messages.join().unwrap_or_default();
    let reason = if is_late {
        Some(not_done)
    } else if status.success() {
        None
    } else if status.code().is_some() {
        Some(last_message(&messages))
    } else {
        Some(format!("its process ended by {status}"))
    };
    Ok(Made { rows, reason })
}

fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if began.elapsed() < limit => std::thread::sleep(LOOK_AGAIN),
            Ok(None) => return false,
            // What cannot be waited for will tell so again.
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

/// Ends a process and what it started.
fn end_group(child: &mut Child) {
    #[cfg(unix)]
    signal_group(&format!("-{}", child.id()));
    // Where there is no shell; an error means that it has ended.
    let _ = child.kill();
}

/// Ends a group of processes through a shell: the standard library has no call for it.
#[cfg(unix)]
fn signal_group(group: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -KILL {group}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Ends this process, which leads a group, and what it started.
pub(crate) fn end_own_processes() {
    #[cfg(unix)]
    signal_group(&format!("-{}", std::process::id()));
    std::process::exit(1);
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: f64) -> (Made, Duration) {
        let began = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let share = Share {
            limit: Duration::from_secs_f64(limit),
            whole: Duration::from_secs_f64(1.5 * limit),
        };
        let made = run(command, share).expect("a shell");
        (made, began.elapsed())
    }

    const ROW: &str = r#"echo '{"kind":"device","name":"a card","free_bytes":null,"threads":2}'"#;

    #[test]
    fn rows_are_kept_however_the_process_ends() {
        let (made, _) = shell(&format!("echo noise; {ROW}"), 60.0);
        assert_eq!((made.rows.len(), made.reason), (1, None));
        let (made, _) = shell(&format!("{ROW}; echo 'error: no card' >&2; exit 32"), 60.0);
        assert_eq!(made.rows.len(), 1);
        assert_eq!(made.reason.as_deref(), Some("no card"));
        let (made, _) = shell(&format!("{ROW}; kill -KILL $$"), 60.0);
        assert_eq!(made.rows.len(), 1);
        assert!(made.reason.is_some_and(|reason| reason.contains("signal")));
    }

    #[test]
    fn what_is_late_says_where_it_stood_and_what_compiles_takes_none_of_its_time() {
        let stage = |stage: &str, compiles: bool| {
            format!(r#"echo '{{"kind":"stage","stage":"{stage}","compiles":{compiles}}}'"#)
        };
        let (first, step) = (stage("the first step", true), stage("step 2 of 30", false));
        let kernel = "echo '[Compiling kernel] product'";
        let reason = |script: &str| {
            let (made, took) = shell(script, 3.0);
            assert!(took < Duration::from_secs(30), "{took:?}");
            made.reason.expect("late")
        };
        let text = reason(&format!("{first}; {kernel}; sleep 60"));
        let expected = "its 4 s, compiling included; it stood at: the first step, the last kernel it began to compile: product";
        assert!(text.ends_with(expected), "{text}");
        let text = reason(&format!("{first}; {kernel}; {step}; sleep 60"));
        assert!(
            text.ends_with("its 3 s; it stood at: step 2 of 30"),
            "{text}"
        );
        // Longer than the limit as a whole, and neither half is; what compiles late does not count either.
        for compiling in [&first, kernel] {
            let (made, _) = shell(
                &format!("{compiling}; sleep 5; {step}; sleep 5; {ROW}"),
                9.0,
            );
            assert_eq!((made.rows.len(), made.reason), (1, None));
        }
        // Nothing goes on for ever by compiling again and again.
        let text = reason(&format!("while :; do {first}; sleep 1; done"));
        assert!(text.contains("compiling included"), "{text}");
    }

    #[test]
    fn what_takes_too_long_is_ended_with_what_it_started() {
        // The inner one would keep the outputs open for a minute.
        let (made, took) = shell(&format!("{ROW}; sleep 60 & sleep 60"), 3.0);
        assert_eq!(made.rows.len(), 1);
        assert!(
            made.reason
                .is_some_and(|reason| reason.contains("not done"))
        );
        assert!(took < Duration::from_secs(30), "{took:?}");
        let (made, took) = shell("exec >&- 2>&-; sleep 60", 0.5);
        assert!(made.reason.is_some() && took < Duration::from_secs(30));
    }
}
