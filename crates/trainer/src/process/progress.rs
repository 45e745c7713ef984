//! Telling people and programs how a run goes.
//!
//! At a terminal a bar on stderr and one line an epoch on stdout; elsewhere, or with the environment variable CMDLINE
//! set, the lines alone, without escape codes; for programs one JSON object an event on stdout and nothing else there.
//! Nothing here fails: a closed pipe or a full disk behind stdout must not end a run whose files are fine.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::heartbeat::Heartbeat;

mod events;
mod text;

use events::Event;
pub use events::{EpochEnd, Finish, RunStart, StepProgress, StepRate, StopReason};

/// Seconds between two updates of the bar.
const BAR_INTERVAL: f64 = 0.1;

/// Seconds between two step events for programs; one for each step would make gigabytes of a long run.
const JSON_INTERVAL: f64 = 1.0;

/// Between two lines of a log within an epoch, unless LOG_INTERVAL says otherwise.
pub const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// A run that takes longer than this is told how long, in seconds.
const LONG_RUN: f64 = 3600.0;

/// Who is looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A person at a terminal.
    Terminal,
    /// A log.
    Plain,
    /// A program.
    Json,
}

impl ProgressMode {
    /// Chooses the mode: `--json` first; then plain where CMDLINE is set and not empty (the post's switch), where
    /// there is no terminal, or one that only takes text (TERM is `dumb`).
    pub fn choose(
        json: bool,
        at_terminal: bool,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let cmdline = environment("CMDLINE").is_some_and(|value| !value.is_empty());
        let dumb = environment("TERM").is_some_and(|value| value == "dumb");
        match json {
            true => Self::Json,
            false if at_terminal && !cmdline && !dumb => Self::Terminal,
            false => Self::Plain,
        }
    }
}

/// Whether both stdout and stderr go to a terminal.
pub fn at_terminal() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Reports events in one of the three modes.
pub struct Progress {
    mode: ProgressMode,
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    bar: ProgressBar,
    /// Whether the bar is drawn once there is a step to show.
    draws_bar: bool,
    /// Seconds into its epoch of the step shown last.
    last_shown: Option<f64>,
    /// How long the last whole epoch took.
    epoch_seconds: Option<f64>,
    /// Notices that are given once.
    told: BTreeSet<String>,
    /// When the last line was written, and how long after it a log is due another one.
    last_line: Instant,
    log_interval: Duration,
    /// Breaks longer silences of a log.
    heartbeat: Option<Heartbeat>,
    /// Whether it has been said how long the run takes.
    is_estimated: bool,
}

impl Progress {
    /// Reports to the process' stdout and stderr.
    pub fn new(mode: ProgressMode) -> Self {
        let mut progress = Self::with_writers(mode, Box::new(io::stdout()), Box::new(io::stderr()));
        progress.draws_bar = mode == ProgressMode::Terminal;
        progress
    }

    /// Reports lines to other writers, and draws no bar.
    pub fn with_writers(
        mode: ProgressMode,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
    ) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(
            ProgressStyle::with_template("{prefix}  [{wide_bar}]\n{wide_msg}")
                .expect("the template is well-formed")
                .progress_chars("=> "),
        );
        Self {
            mode,
            stdout,
            stderr,
            bar,
            draws_bar: false,
            last_shown: None,
            epoch_seconds: None,
            told: BTreeSet::new(),
            last_line: Instant::now(),
            log_interval: LOG_INTERVAL,
            heartbeat: None,
            is_estimated: false,
        }
    }

    /// Sees to it that a log has a line about so often, and is never without one for longer than twice this.
    pub fn breaks_silence_after(&mut self, interval: Duration) {
        self.log_interval = interval;
        if self.mode == ProgressMode::Plain {
            // Later than steps and scores tell of themselves, or each interval would have two lines.
            self.heartbeat = Some(Heartbeat::start(2 * interval, io::stdout()));
        }
    }

    fn now_at(&self, place: impl FnOnce() -> String) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.now_at(place());
        }
    }

    /// A run begins.
    pub fn run_started(&mut self, start: &RunStart<'_>) {
        if self.mode == ProgressMode::Json {
            self.event(&Event::RunStart(start));
        } else {
            self.line(&text::run_start(start));
        }
    }

    /// Whether a step at this many seconds into its epoch would be shown.
    ///
    /// Reading a loss waits for the device, so ask before reading one only for [`Progress::step`].
    pub fn step_due(&mut self, seconds: f64) -> bool {
        let interval = match self.mode {
            ProgressMode::Terminal => BAR_INTERVAL,
            ProgressMode::Json => JSON_INTERVAL,
            ProgressMode::Plain => return self.last_line.elapsed() >= self.log_interval,
        };
        // An earlier time than the last one shown belongs to a new epoch.
        self.last_shown
            .is_none_or(|last| seconds < last || seconds - last >= interval)
    }

    /// A step is done.
    pub fn step(&mut self, step: &StepProgress) {
        self.last_shown = Some(step.seconds);
        match self.mode {
            ProgressMode::Plain => {
                let place = text::step(step, self.epoch_seconds);
                self.line(&format!("{place}  {}", text::terms(&step.terms)));
            }
            ProgressMode::Terminal => {
                self.bar.set_length(step.steps as u64);
                self.bar.set_prefix(text::step(step, self.epoch_seconds));
                self.bar.set_message(text::terms(&step.terms));
                if self.draws_bar && self.bar.is_hidden() {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                self.bar.set_position(step.step as u64);
            }
            ProgressMode::Json => self.event(&Event::Step(step)),
        }
    }

    /// The run is at a step of which nothing need be shown.
    pub fn passes_step(&self, epoch: u32, step: usize, steps: usize) {
        self.now_at(|| format!("epoch {epoch}, step {step} of {steps}"));
    }

    /// Says once, from the pace of the first steps, how long a long run takes and how there is less to do.
    pub fn estimate(&mut self, step: &StepProgress) {
        let Some(rate) = step.rate.filter(|_| !self.is_estimated) else {
            return;
        };
        self.is_estimated = true;
        let an_epoch = rate.seconds_per_step * step.steps as f64;
        let epochs = step.epochs.saturating_sub(step.epoch) + 1;
        if an_epoch * f64::from(epochs) > LONG_RUN {
            self.notice(&text::estimate(rate, an_epoch, epochs));
        }
    }

    /// So many of a split's images have been scored: a log is told where that takes long.
    pub fn evaluated(&mut self, split: &str, done: usize, of: usize) {
        let place = || format!("scoring {split} images: {done} of {of}");
        self.now_at(place);
        if self.mode == ProgressMode::Plain && self.last_line.elapsed() >= self.log_interval {
            self.line(&place());
        }
    }

    /// An epoch is done.
    pub fn epoch_ended(&mut self, end: &EpochEnd) {
        self.last_shown = None;
        self.epoch_seconds = Some(end.seconds);
        self.now_at(|| format!("after epoch {}", end.row.epoch));
        if self.mode == ProgressMode::Json {
            self.event(&Event::Epoch(end));
        } else {
            self.line(&text::epoch(end));
        }
    }

    /// Something a person should know; on stderr except for programs.
    pub fn notice(&mut self, notice: &str) {
        if self.mode == ProgressMode::Json {
            self.event(&Event::Notice { text: notice });
        } else {
            let (bar, stderr) = (&self.bar, &mut self.stderr);
            bar.suspend(|| write_ignoring_failure(stderr, &text::printable(notice)));
        }
    }

    /// A notice that is not repeated in this process.
    pub fn notice_once(&mut self, notice: &str) {
        self.notice_once_of(notice, notice);
    }

    /// The first notice of a subject; later ones, which may have other numbers, are left out.
    pub fn notice_once_of(&mut self, subject: &str, notice: &str) {
        if self.told.insert(subject.to_owned()) {
            self.notice(notice);
        }
    }

    /// A run is over.
    pub fn finished(&mut self, finish: &Finish<'_>) {
        self.bar.finish_and_clear();
        if self.mode == ProgressMode::Json {
            self.event(&Event::Finish(finish));
        } else {
            for line in text::finish(finish) {
                self.line(&line);
            }
        }
    }

    /// One line on stdout, above the bar if there is one.
    fn line(&mut self, line: &str) {
        self.last_line = Instant::now();
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.line_written();
        }
        let (bar, stdout) = (&self.bar, &mut self.stdout);
        bar.suspend(|| write_ignoring_failure(stdout, &text::printable(line)));
    }

    /// One object on stdout, whose first key names the event.
    fn event(&mut self, event: &Event<'_>) {
        let event = serde_json::to_string(event);
        let line = event.expect("events have names, numbers and lists only");
        write_ignoring_failure(&mut self.stdout, &line);
    }
}

/// Writes a line at once, so that a log is never behind by more than the line being written.
fn write_ignoring_failure(writer: &mut dyn Write, line: &str) {
    let _ = writer
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| writer.flush());
}

#[cfg(test)]
mod tests;
