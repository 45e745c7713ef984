//! Telling people and programs how a sweep goes.

use run_files::metrics::Terms;
use run_files::run_record::RunSummary;
use run_files::wording::{bits_per_dim, counted, rough_duration};
use serde::Serialize;
use serde_json::Value;

/// Reports a sweep's events on stdout: lines for people, or one JSON object an event.
pub struct SweepProgress {
    json: bool,
}

/// A line for programs, whose first key names the event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    SweepStart {
        out: &'a str,
        runs: usize,
        finished: usize,
    },
    RunStart {
        run_dir: &'a str,
        seconds_left: Option<f64>,
        run: &'a Turn,
    },
    Waiting {
        run_dir: &'a str,
        run: &'a Turn,
    },
    Epoch {
        epoch: &'a Value,
        run: &'a Turn,
    },
    Notice {
        text: &'a str,
        run: &'a Turn,
    },
    RunFinished {
        test_cross_entropy: f64,
        test_excess: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        test_bits_per_dim: Option<f64>,
        run: &'a Turn,
    },
    RunFailed {
        message: &'a str,
        status: &'a str,
        run: &'a Turn,
    },
    SweepEnd {
        files: &'a [String],
    },
}

impl Event<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("events have names, numbers and lists only")
    }
}

/// The run in turn.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Turn {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Runs of the sweep.
    pub(super) of: usize,
    /// The group in a few words.
    pub(super) label: String,
    /// Its seed.
    pub(super) seed: u64,
}

impl Turn {
    fn text(&self) -> String {
        let Self {
            number,
            of,
            label,
            seed,
        } = self;
        format!("[{number}/{of}] {label}, seed {seed}")
    }
}

impl SweepProgress {
    /// For programs if `json`, else for people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// The sweep begins.
    pub(super) fn started(&self, out: &str, runs: usize, finished: usize) {
        let text = format!(
            "{} in {out}, {finished} of them finished already",
            counted(runs as u64, "run")
        );
        self.tell(
            &Event::SweepStart {
                out,
                runs,
                finished,
            },
            &text,
        );
    }

    /// A run begins or goes on.
    pub(super) fn run_started(&self, turn: &Turn, run_dir: &str, seconds_left: Option<f64>) {
        let left = seconds_left.map_or(String::new(), |seconds| {
            format!("; about {} of training left", rough_duration(seconds))
        });
        let text = format!("{}: {run_dir}{left}", turn.text());
        self.tell(
            &Event::RunStart {
                run_dir,
                seconds_left,
                run: turn,
            },
            &text,
        );
    }

    /// Another process trains in the run's folder.
    pub(super) fn waiting(&self, turn: &Turn, run_dir: &str) {
        let text = format!(
            "{}: another process is training in {run_dir}; waiting for it to end",
            turn.text()
        );
        self.tell(&Event::Waiting { run_dir, run: turn }, &text);
    }

    /// An event of the run's own process.
    pub(super) fn run_event(&self, turn: &Turn, event: &Value) {
        let number = |key: &str| event[key].as_f64().unwrap_or(f64::NAN);
        match event["event"].as_str() {
            Some("epoch") => {
                let score = match event["valid/bits_per_dim"].as_f64() {
                    Some(bits) => format!("{} bits/dim", bits_per_dim(bits)),
                    // A log-probability has no floor to exceed.
                    None if event["valid/excess"].is_null() => {
                        format!("-log p(x | z) {:.2}", number("valid/cross_entropy"))
                    }
                    None => format!("excess {:.2}", number("valid/excess")),
                };
                let text = format!(
                    "{}: epoch {}  loss {:.2}  valid {:.2} ({score}, KL {:.2})  {:.1} s",
                    turn.text(),
                    event["epoch"],
                    number("train/loss"),
                    number("valid/loss"),
                    number("valid/kl"),
                    number("seconds"),
                );
                self.tell(
                    &Event::Epoch {
                        epoch: event,
                        run: turn,
                    },
                    &text,
                );
            }
            Some("notice") => {
                let text = event["text"].as_str().unwrap_or_default();
                let line = format!("{}: {text}", turn.text());
                self.tell(&Event::Notice { text, run: turn }, &line);
            }
            _ => {}
        }
    }

    /// A run is finished.
    pub(super) fn run_finished(&self, turn: &Turn, summary: &RunSummary) {
        let Terms {
            cross_entropy,
            excess,
            kl,
            ..
        } = summary.test;
        let score = match summary.test_bits_per_dim {
            Some(bits) => format!("{} bits/dim", bits_per_dim(bits)),
            None if excess.is_nan() => format!("KL {kl:.2}"),
            None => format!("{excess:.2} above the floor"),
        };
        let text = format!(
            "{}: test cross-entropy {cross_entropy:.2}, {score}",
            turn.text()
        );
        self.tell(
            &Event::RunFinished {
                test_cross_entropy: cross_entropy,
                test_excess: excess,
                test_bits_per_dim: summary.test_bits_per_dim,
                run: turn,
            },
            &text,
        );
    }

    /// A run failed.
    pub(super) fn run_failed(&self, turn: &Turn, message: &str, status: &str) {
        let text = format!("{}: failed: {message} ({status})", turn.text());
        self.tell(
            &Event::RunFailed {
                message,
                status,
                run: turn,
            },
            &text,
        );
    }

    /// The sweep is through; `lines` are its results in short.
    pub(super) fn ended(&self, files: &[String], lines: &[String]) {
        if self.json {
            self.tell(&Event::SweepEnd { files }, "");
        } else {
            for line in lines.iter().chain(files) {
                print_line(line);
            }
        }
    }

    fn tell(&self, event: &Event<'_>, text: &str) {
        if self.json {
            print_line(&event.to_json());
        } else {
            print_line(text);
        }
    }
}

/// A closed pipe behind stdout must not end a sweep whose files are fine.
fn print_line(line: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_names_number_group_and_seed() {
        let turn = Turn {
            number: 3,
            of: 12,
            label: "depth 40, plain".to_owned(),
            seed: 2,
        };
        assert_eq!(turn.text(), "[3/12] depth 40, plain, seed 2");
    }

    /// Other programs read these lines: keys, their order and the form of numbers stay.
    #[test]
    fn events_are_written_as_they_were() {
        let turn = Turn {
            number: 1,
            of: 2,
            label: "depth 28, residual".to_owned(),
            seed: 1,
        };
        let finished = |bits| Event::RunFinished {
            test_cross_entropy: 1859.5,
            test_excess: f64::NAN,
            test_bits_per_dim: bits,
            run: &turn,
        };
        let of_run = r#""run":{"number":1,"of":2,"label":"depth 28, residual","seed":1}}"#;
        for (event, expected) in [
            (
                Event::RunStart {
                    run_dir: "a",
                    seconds_left: None,
                    run: &turn,
                },
                r#"{"event":"run_start","run_dir":"a","seconds_left":null,"#,
            ),
            (
                Event::Waiting {
                    run_dir: "a",
                    run: &turn,
                },
                r#"{"event":"waiting","run_dir":"a","#,
            ),
            (
                finished(None),
                r#"{"event":"run_finished","test_cross_entropy":1859.5,"test_excess":null,"#,
            ),
            (
                finished(Some(7.25)),
                r#"{"event":"run_finished","test_cross_entropy":1859.5,"test_excess":null,"test_bits_per_dim":7.25,"#,
            ),
            (
                Event::RunFailed {
                    message: "no",
                    status: "exit status: 30",
                    run: &turn,
                },
                r#"{"event":"run_failed","message":"no","status":"exit status: 30","#,
            ),
        ] {
            assert_eq!(event.to_json(), format!("{expected}{of_run}"));
        }
    }
}
