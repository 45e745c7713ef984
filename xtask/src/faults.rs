//! `cargo xtask faults`: kills, damage, hostile data and full disks, counted.
//!
//! The faults themselves are tests like all others, with `faults` in their names. The variable `FAULTS` tells them how
//! many cases to go through, and each prints `fault: ROW: N cases` once all of them held, or `fault: ROW: skipped: WHY`
//! for what this machine cannot show. A row that no line names has failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::build;
use crate::fuzzing;
use crate::output::{print_line, tell};

/// What must be shown, in the order of the table.
const ROWS: [&str; 19] = [
    "kill -9",
    "failing file operation",
    "signals",
    "damaged checkpoint",
    "disk full",
    "resume points",
    "edited run",
    "links",
    "odd file systems",
    "unwritable output",
    "non-finite steps",
    "ranks",
    "http faults",
    "killed downloads",
    "parallel downloads",
    "damaged archive",
    "hostile archive",
    "extreme values",
    FUZZING,
];

/// The row that is no test.
const FUZZING: &str = "fuzzing";

/// Kill the programs, damage their files, fill their disks, serve them hostile data, and count what they survive.
///
/// The full set takes hours; `--quick` is the part of it that every change must pass. Ends with a table, and with exit
/// code 1 where a row failed or is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct FaultsArgs {
    /// The short set: minutes instead of hours
    #[arg(long)]
    quick: bool,
    /// Leave fuzzing out
    #[arg(long)]
    no_fuzzing: bool,
}

/// Runs the tests, then the fuzzers, and prints the table.
pub(crate) fn run(args: &FaultsArgs) -> anyhow::Result<ExitCode> {
    let mut table = Table::default();
    run_tests(args.quick, &mut table)?;
    if !args.no_fuzzing {
        let start = Instant::now();
        let outcome = match fuzzing::run(args.quick)? {
            fuzzing::Outcome::Passed { executions } => Line::Cases(executions),
            fuzzing::Outcome::Skipped(reason) => Line::Skipped(reason),
            fuzzing::Outcome::Failed(messages) => {
                table.failures.extend(messages);
                Line::Failed
            }
        };
        table.add(FUZZING, outcome, start.elapsed());
    }
    print_line(format_args!("\n{}", table.print(args.no_fuzzing)))?;
    Ok(if table.has_passed(args.no_fuzzing) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs every test with `faults` in its name, one at a time, and reads their lines.
fn run_tests(is_quick: bool, table: &mut Table) -> anyhow::Result<()> {
    // The packages of the README's test command, so that nothing is compiled a second time.
    let mut command: Command = build::cargo();
    let mut child = command
        .args(["test", "--workspace", "--lib", "--bins", "--tests"])
        .args(["--no-fail-fast", "faults", "--"])
        .args(["--nocapture", "--test-threads=1"])
        .env("FAULTS", if is_quick { "quick" } else { "full" })
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo could not be started")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut reader = TestReader::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        tell(&line);
        reader.read(&line, Instant::now(), table);
    }
    let status = child.wait().context("cargo")?;
    if !status.success() && table.failures.is_empty() {
        table
            .failures
            .push("cargo test failed; its messages stand above".to_owned());
    }
    Ok(())
}

/// What a line says about its row.
#[derive(Debug, PartialEq)]
enum Line {
    Cases(u64),
    Skipped(String),
    Failed,
}

/// Reads the output of tests that run one at a time.
struct TestReader {
    test: String,
    since: Instant,
}

impl TestReader {
    fn new() -> Self {
        Self {
            test: String::new(),
            since: Instant::now(),
        }
    }

    fn read(&mut self, line: &str, now: Instant, table: &mut Table) {
        if let Some(name) = line
            .strip_prefix("test ")
            .filter(|_| line.contains(" ... "))
        {
            self.test = name.split(' ').next().unwrap_or(name).to_owned();
        }
        if let Some((row, outcome)) = parse(line) {
            table.add(row, outcome, now - self.since);
            self.since = now;
        }
        if line.starts_with("running ") || line.ends_with("ok") {
            self.since = now;
        }
        if line.ends_with("FAILED") && !line.starts_with("test result") {
            table.failures.push(format!("test {}", self.test));
            self.since = now;
        }
    }
}

/// The row and outcome of a line, which may stand behind the name of its test.
fn parse(line: &str) -> Option<(&str, Line)> {
    let (_, rest) = line.split_once("fault: ")?;
    let (row, outcome) = rest.split_once(": ")?;
    if let Some(reason) = outcome.strip_prefix("skipped: ") {
        return Some((row, Line::Skipped(reason.to_owned())));
    }
    let cases = outcome.strip_suffix(" cases")?.parse().ok()?;
    Some((row, Line::Cases(cases)))
}

#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    cases: u64,
    time: Duration,
    has_failed: bool,
    skipped: Vec<String>,
}

impl Row {
    fn outcome(&self) -> String {
        match (self.has_failed, self.cases, self.skipped.join("; ")) {
            (true, ..) => "FAILED".to_owned(),
            (false, 0, reasons) if reasons.is_empty() => "FAILED: no cases".to_owned(),
            (false, 0, reasons) => format!("skipped: {reasons}"),
            (false, _, reasons) if reasons.is_empty() => "passed".to_owned(),
            (false, _, reasons) => format!("passed; skipped: {reasons}"),
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    /// Tests and fuzzers that failed.
    failures: Vec<String>,
}

impl Table {
    /// A row is filled by as many tests as name it.
    fn add(&mut self, name: &str, outcome: Line, time: Duration) {
        let index = self.rows.iter().position(|row| row.name == name);
        let index = index.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                cases: 0,
                time: Duration::ZERO,
                has_failed: false,
                skipped: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        row.time += time;
        match outcome {
            Line::Cases(cases) => row.cases += cases,
            Line::Skipped(reason) => row.skipped.push(reason),
            Line::Failed => row.has_failed = true,
        }
    }

    /// The rows that must be there and are not.
    fn missing(&self, without_fuzzing: bool) -> impl Iterator<Item = &'static str> {
        ROWS.into_iter().filter(move |name| {
            !(without_fuzzing && *name == FUZZING) && self.rows.iter().all(|row| row.name != *name)
        })
    }

    fn has_passed(&self, without_fuzzing: bool) -> bool {
        let is_whole = self.missing(without_fuzzing).next().is_none();
        let is_sound = |row: &Row| !row.outcome().starts_with("FAILED");
        is_whole && self.failures.is_empty() && self.rows.iter().all(is_sound)
    }

    /// The table in Markdown, expected rows first, and a line for each failure.
    fn print(&self, without_fuzzing: bool) -> String {
        let mut lines = vec![
            "| fault | cases | seconds | outcome |".to_owned(),
            "|---|---|---|---|".to_owned(),
        ];
        let place = |row: &&Row| ROWS.iter().position(|name| *name == row.name);
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| place(row).unwrap_or(ROWS.len()));
        lines.extend(rows.iter().map(|row| {
            let seconds = row.time.as_secs_f64();
            let outcome = row.outcome();
            format!(
                "| {} | {} | {seconds:.1} | {outcome} |",
                row.name, row.cases
            )
        }));
        let missing = self.missing(without_fuzzing);
        lines.extend(missing.map(|name| format!("| {name} | 0 | 0.0 | FAILED: nothing ran |")));
        lines.extend(self.failures.iter().map(|name| format!("failed: {name}")));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test downloads::faults_http ... fault: http faults: 30 cases
ok
test downloads::faults_disk ... fault: disk full: 4 cases
fault: disk full: skipped: no tmpfs
ok
test archive::faults_damage ... FAILED

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";

    fn table_of(output: &str) -> Table {
        let mut table = Table::default();
        let mut reader = TestReader::new();
        let start = reader.since;
        for (line, second) in output.lines().zip(0..) {
            reader.read(line, start + Duration::from_secs(second), &mut table);
        }
        table
    }

    #[test]
    fn lines_of_tests_become_rows_with_their_seconds() {
        let table = table_of(OUTPUT);
        let row = |name: &str| table.rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row("http faults").cases, 30);
        assert_eq!(row("http faults").time, Duration::from_secs(1));
        assert_eq!(row("disk full").outcome(), "passed; skipped: no tmpfs");
        assert_eq!(row("disk full").time, Duration::from_secs(2));
        assert_eq!(table.failures, ["test archive::faults_damage"]);
        assert!(!table.has_passed(true));
    }

    #[test]
    fn every_expected_row_must_be_there() {
        let mut table = Table::default();
        for name in &ROWS[..ROWS.len() - 1] {
            assert!(!table.has_passed(true), "{name} is missing");
            table.add(name, Line::Cases(1), Duration::ZERO);
        }
        assert!(table.has_passed(true));
        assert!(!table.has_passed(false));
        assert!(table.print(false).contains("| fuzzing | 0 | 0.0 | FAILED"));
        table.add(FUZZING, Line::Skipped("no compiler".into()), Duration::ZERO);
        assert!(table.has_passed(false));
        table.add("signals", Line::Failed, Duration::ZERO);
        assert!(!table.has_passed(false));
    }

    #[test]
    fn other_lines_say_nothing() {
        assert_eq!(
            parse("fault: signals: 10 cases"),
            Some(("signals", Line::Cases(10)))
        );
        for line in [
            "fault: signals",
            "fault: signals: ten cases",
            "default: x: 1 cases of",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
