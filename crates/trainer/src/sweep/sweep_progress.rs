//! Telling people and programs how a sweep goes.

use run_files::metrics::Terms;
use run_files::run_record::RunSummary;
use run_files::wording::{bits_per_dim, counted, rough_duration};
use serde_json::{Value, json};

/// Reports a sweep's events on stdout: lines for people, or one JSON object an event.
pub struct SweepProgress {
    json: bool,
}

/// The run in turn.
#[derive(Clone, Debug)]
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
            "sweep_start",
            &text,
            json!({ "out": out, "runs": runs, "finished": finished }),
        );
    }

    /// A run begins or goes on.
    pub(super) fn run_started(&self, turn: &Turn, run_dir: &str, seconds_left: Option<f64>) {
        let left = seconds_left.map_or(String::new(), |seconds| {
            format!("; about {} of training left", rough_duration(seconds))
        });
        let text = format!("{}: {run_dir}{left}", turn.text());
        let fields = json!({ "run_dir": run_dir, "seconds_left": seconds_left });
        self.tell_of("run_start", turn, &text, fields);
    }

    /// Another process trains in the run's folder.
    pub(super) fn waiting(&self, turn: &Turn, run_dir: &str) {
        let text = format!(
            "{}: another process is training in {run_dir}; waiting for it to end",
            turn.text()
        );
        self.tell_of("waiting", turn, &text, json!({ "run_dir": run_dir }));
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
                self.tell_of("epoch", turn, &text, json!({ "epoch": event }));
            }
            Some("notice") => {
                let text = event["text"].as_str().unwrap_or_default();
                let line = format!("{}: {text}", turn.text());
                self.tell_of("notice", turn, &line, json!({ "text": text }));
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
        let mut fields = json!({ "test_cross_entropy": cross_entropy, "test_excess": excess });
        let score = match summary.test_bits_per_dim {
            Some(bits) => {
                fields["test_bits_per_dim"] = json!(bits);
                format!("{} bits/dim", bits_per_dim(bits))
            }
            None if excess.is_nan() => format!("KL {kl:.2}"),
            None => format!("{excess:.2} above the floor"),
        };
        let text = format!(
            "{}: test cross-entropy {cross_entropy:.2}, {score}",
            turn.text()
        );
        self.tell_of("run_finished", turn, &text, fields);
    }

    /// A run failed.
    pub(super) fn run_failed(&self, turn: &Turn, message: &str, status: &str) {
        let text = format!("{}: failed: {message} ({status})", turn.text());
        let fields = json!({ "message": message, "status": status });
        self.tell_of("run_failed", turn, &text, fields);
    }

    /// The sweep is through; `lines` are its results in short.
    pub(super) fn ended(&self, files: &[String], lines: &[String]) {
        if self.json {
            self.tell("sweep_end", "", json!({ "files": files }));
        } else {
            for line in lines.iter().chain(files) {
                print_line(line);
            }
        }
    }

    fn tell_of(&self, name: &str, turn: &Turn, text: &str, mut fields: Value) {
        fields["run"] =
            json!({ "number": turn.number, "of": turn.of, "label": turn.label, "seed": turn.seed });
        self.tell(name, text, fields);
    }

    fn tell(&self, name: &str, text: &str, fields: Value) {
        if self.json {
            let mut event = json!({ "event": name });
            if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
                event.extend(fields);
            }
            print_line(&event.to_string());
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
}
