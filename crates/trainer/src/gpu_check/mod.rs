//! One command that finds out what a device does: `gpu-check`.
//!
//! [`check`] plans the parts, gives each a process of this program and a share of the budget, and writes `results.json` and
//! `results.md` after every one. A part's process prints what it finds line by line, so that nothing found is lost where it
//! panics, runs out of memory or time, or takes the device with it; the next part begins in a process of its own. On a
//! processor the same parts are made at a tiny size, to see that they work.

mod budget;
mod child;
mod determinism;
mod error;
mod parity;
mod part;
mod part_clock;
mod part_process;
mod products;
mod results;
mod row;
mod start;
mod table;
mod work;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

pub use error::GpuCheckError;
pub(crate) use part_process::end_own_processes;

use crate::device::why_no_bf16;
use crate::process::own_program::this_program;
use budget::Share;
use chrono::{DateTime, SecondsFormat, Utc};
use part::{Part, PartOptions, Scale, all, of_parts, on_request};
use results::{Outcome, PartResult, Results};
use run_files::atomic_file::write_atomically;
use run_files::run_folder::{BURN_VERSION, file_error};
use run_files::settings::{DeviceChoice, Precision};
use work::work;

/// What the results are written to, in the folder of the check.
const RESULTS: &str = "results.json";
const TABLE: &str = "results.md";
/// The longest budget, in seconds.
const LONGEST: f64 = 1e6;

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// The device.
    pub device: DeviceChoice,
    /// Folder of the results.
    pub out: PathBuf,
    /// Seconds for everything.
    pub budget_seconds: f64,
    /// One part by its name, or several by the first word of theirs; none means all.
    pub part: Option<String>,
    /// A Python with PyTorch; none leaves PyTorch out.
    pub python: Option<PathBuf>,
}

impl CheckOptions {
    fn scale(&self) -> Scale {
        Scale::of(self.device.gpu_index().is_some())
    }

    /// Those of a whole check.
    fn parts(&self) -> Vec<Part> {
        self.possible(all(self.scale(), self.python.is_some()))
    }

    /// Without bfloat16 where the device has none.
    fn possible(&self, mut parts: Vec<Part>) -> Vec<Part> {
        if self.why_no_bf16().is_some() {
            parts.retain(|part| part.precision() != Some(Precision::Bf16));
        }
        parts
    }

    /// Why the device has no bfloat16. A driver that does not answer in a part's time has its parts say so.
    fn why_no_bf16(&self) -> Option<String> {
        static ANSWER: OnceLock<Option<String>> = OnceLock::new();
        let ask = || {
            let (answer, answered) = mpsc::channel();
            let device = self.device;
            std::thread::spawn(move || answer.send(why_no_bf16(device)));
            let share = budget::share(self.budget(), Duration::ZERO)?;
            answered.recv_timeout(share.limit).ok().flatten()
        };
        ANSWER.get_or_init(ask).clone()
    }

    fn budget(&self) -> Duration {
        Duration::from_secs_f64(self.budget_seconds.clamp(0.0, LONGEST))
    }

    /// Those that can be asked for.
    fn known(&self) -> Vec<Part> {
        let mut parts = self.parts();
        parts.extend(self.possible(on_request(self.scale())));
        parts
    }

    /// Those of these parts that have the name.
    fn named(name: &str, parts: &[Part]) -> Result<Vec<Part>, GpuCheckError> {
        let named: Vec<Part> = parts
            .iter()
            .copied()
            .filter(|part| part.is_named(name))
            .collect();
        if named.is_empty() {
            let known: Vec<String> = parts.iter().map(ToString::to_string).collect();
            return Err(GpuCheckError::UnknownPart {
                given: name.to_owned(),
                known: known.join(", "),
            });
        }
        Ok(named)
    }
}

/// Makes a part in this process and prints its rows, as JSON, one a line.
///
/// # Errors
/// Where there is no such part, or the device cannot be opened or fails.
pub(crate) fn run_part(name: &str, options: &CheckOptions) -> Result<(), GpuCheckError> {
    let part_options = PartOptions {
        device: options.device,
        scale: options.scale(),
        out: options.out.clone(),
        python: options.python.clone(),
    };
    let mut on_row = |row: row::Row| {
        say(&serde_json::to_string(&row).expect("a row has names and numbers only"));
    };
    on_row(row::Row::stage("asking for the device".to_owned(), true));
    let parts = [options.known(), of_parts()].concat();
    for part in CheckOptions::named(name, &parts)? {
        work(part, &part_options, &mut on_row)?;
    }
    Ok(())
}

/// Makes all parts, or those that are asked for, as far as the budget goes.
///
/// # Errors
/// Where a part failed, an earlier result is another device's, or results cannot be written. Parts that were not reached
/// are no error.
pub fn check(options: &CheckOptions) -> Result<(), GpuCheckError> {
    let began = Instant::now();
    let seconds = options.budget_seconds;
    if !(seconds > 0.0 && seconds <= LONGEST) {
        return Err(GpuCheckError::Budget { seconds });
    }
    std::fs::create_dir_all(&options.out).map_err(file_error(&options.out))?;
    if let Some(reason) = options.why_no_bf16() {
        say(&format!("no part is made in bfloat16: {reason}"));
    }
    let (chosen, mut results) = begin(options)?;
    // Also where nothing is reached.
    write(&mut results, &options.out)?;
    for part in chosen {
        let share = budget::share(options.budget(), began.elapsed());
        let result = match share {
            Some(share) => make(part, options, share)?,
            None => PartResult::not_reached(part.to_string()),
        };
        if let Some(share) = share {
            say(&line(&result, share));
        }
        // What an earlier call found is worth more than nothing.
        let is_news = result.outcome != Outcome::NotReached;
        let place = results.parts.iter_mut().find(|old| old.part == result.part);
        if let Some(place) = place.filter(|_| is_news) {
            *place = result;
            write(&mut results, &options.out)?;
        }
    }
    finish(&results, &options.out)
}

/// The parts to be made, and the results so far: empty ones, or with `--part` those of earlier calls.
fn begin(options: &CheckOptions) -> Result<(Vec<Part>, Results), GpuCheckError> {
    let mut parts = options.parts();
    let device = options.device.to_string();
    let (chosen, earlier) = match &options.part {
        Some(name) => {
            let chosen = CheckOptions::named(name, &options.known())?;
            let more = chosen.iter().filter(|part| !parts.contains(part)).copied();
            parts.extend(more.collect::<Vec<_>>());
            (chosen, Results::read(&options.out.join(RESULTS), &device)?)
        }
        None => (parts.clone(), None),
    };
    let mut earlier = earlier.map_or_else(Vec::new, |results| results.parts);
    let mut all_parts: Vec<PartResult> = Vec::new();
    for part in parts {
        let name = part.to_string();
        let found = earlier.iter().position(|old| old.part == name);
        all_parts.push(match found {
            Some(index) => earlier.remove(index),
            None => PartResult::not_reached(name),
        });
    }
    // PyTorch's, where it is not asked for this time.
    all_parts.extend(earlier);
    let results = Results {
        device,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        burn_version: BURN_VERSION.to_owned(),
        date: now(),
        budget_seconds: options.budget_seconds,
        is_tiny: options.scale() == Scale::TINY,
        parts: all_parts,
    };
    Ok((chosen, results))
}

/// Given by `cargo xtask`, which knows the checkout.
fn commit() -> Option<String> {
    let commit = std::env::var("RESNET_VAE_COMMIT").ok();
    commit.filter(|commit| !commit.is_empty())
}

/// Makes a part in a process of its own.
fn make(part: Part, options: &CheckOptions, share: Share) -> Result<PartResult, GpuCheckError> {
    let began = Instant::now();
    let mut command = this_program();
    command
        .args(["gpu-check", "--run-part", &part.to_string()])
        .args(["--device", &options.device.to_string()])
        .arg("--out")
        .arg(&options.out);
    if let Some(python) = &options.python {
        command.arg("--python").arg(python);
    }
    let made = part_process::run(command, share)?;
    let failures = made.rows.iter().filter_map(row::Row::failure);
    let reasons: Vec<String> = made.reason.into_iter().chain(failures).collect();
    let outcome = if reasons.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let commit = commit().map_or_else(String::new, |commit| format!(" ({commit})"));
    Ok(PartResult {
        part: part.to_string(),
        outcome,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        seconds: began.elapsed().as_secs_f64(),
        limit_seconds: Some(share.limit.as_secs_f64()),
        date: Some(now()),
        program: Some(format!("{}{commit}", env!("CARGO_PKG_VERSION"))),
        rows: made.rows,
    })
}

/// The present time in UTC, as `2026-11-25T09:30:00Z`.
fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Prints a line; that nobody reads it is no reason to stop, for the files have everything.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn line(result: &PartResult, share: Share) -> String {
    let outcome = match result.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::NotReached => "not reached",
    };
    let reason = result.reason.as_deref().map(|reason| format!("  {reason}"));
    format!(
        "{:<24} {outcome}  {:6.1} s of {:.0}{}",
        result.part,
        result.seconds,
        share.limit.as_secs_f64(),
        reason.unwrap_or_default()
    )
}

/// Writes both files.
fn write(results: &mut Results, folder: &Path) -> Result<(), GpuCheckError> {
    results.date = now();
    let mut json =
        serde_json::to_string_pretty(results).expect("results have names and numbers only");
    json.push('\n');
    for (name, text) in [(RESULTS, json), (TABLE, table::markdown(results))] {
        let path = folder.join(name);
        write_atomically(&path, text.as_bytes()).map_err(file_error(&path))?;
    }
    Ok(())
}

/// Says what was not reached, and where the results are; fails where a part did.
fn finish(results: &Results, folder: &Path) -> Result<(), GpuCheckError> {
    let table = folder.join(TABLE);
    let missing = results.named(Outcome::NotReached);
    if !missing.is_empty() {
        say(&format!("not reached: {}", missing.join(", ")));
        say(
            "`--part NAME` makes one of them, or all of a kind by its first word, and keeps the others",
        );
    }
    for line in table::ratios(results) {
        say(&line);
    }
    say(&format!("results in {} and {RESULTS}", table.display()));
    let failed = results.named(Outcome::Failed);
    if failed.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "{} of the parts failed: {}",
        failed.len(),
        failed.join(", ")
    );
    Err(GpuCheckError::PartsFailed {
        reason,
        results: table,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_check_is_the_present_second_in_utc() {
        let before = SystemTime::now() - Duration::from_secs(1);
        let text = now();
        assert_eq!((text.len(), &text[19..]), (20, "Z"), "{text}");
        let date = DateTime::parse_from_rfc3339(&text).expect("a date");
        let date = SystemTime::from(date);
        assert!(before <= date && date <= SystemTime::now(), "{text}");
    }
}
