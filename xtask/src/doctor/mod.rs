//! `cargo xtask doctor`: whether this machine is fit for a run, each finding with its cure.

mod checks;
mod device;
mod finding;
mod network;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use run_files::settings::DeviceChoice;
use run_files::wording;
use serde::Serialize;

pub(crate) use self::finding::Finding;
use self::finding::Status;
use crate::output::print_line;
use crate::path_argument::path;

/// The whole takes no longer, whatever hangs.
const LIMIT: Duration = Duration::from_millis(4500);

/// Check toolchain, disk, data, memory, device and mirrors, in less than 5 seconds.
///
/// Exit code 0 where every check passed or only warned, else that of the first that failed: 1 toolchain, 10 network (only where the data is
/// missing too), 11 checksum, 12 data set, 21 disk, 31 memory, 32 device. Missing data alone is no failure: the preset
/// `demo` needs none.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Folder of the CIFAR-10 files
    #[arg(long, value_name = "D", default_value = "data", value_parser = path())]
    data_dir: PathBuf,
    /// Folder that runs are written to
    #[arg(long, value_name = "D", default_value = "runs", value_parser = path())]
    run_dir: PathBuf,
    #[arg(long, help = format!("Device of the runs: {}", DeviceChoice::FORMS), value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Do not ask the mirrors
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A check that runs beside the others.
type Check = Box<dyn FnOnce() -> Vec<Finding> + Send>;

/// Runs every check and prints what it found.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let (data_dir, run_dir) = (args.data_dir.clone(), args.run_dir.clone());
    let device = args.device;
    let mut named: Vec<(&'static str, Check)> = vec![
        ("toolchain", Box::new(checks::toolchain)),
        ("linker", Box::new(checks::linker)),
        ("processors", Box::new(|| vec![checks::processors()])),
        ("memory", Box::new(checks::memory)),
        ("device", Box::new(move || device::check(device))),
        ("disk", Box::new(checks::disk)),
        (
            "run folder",
            Box::new(move || vec![checks::writing(&run_dir)]),
        ),
        ("data", Box::new(move || vec![checks::data(&data_dir)])),
    ];
    if !args.offline {
        named.push(("mirror", Box::new(network::mirrors)));
    }
    let mut findings = in_time(named, start + LIMIT);
    network::judge(&mut findings);
    let first_red = findings
        .iter()
        .find(|finding| finding.status == Status::Red);
    let code = first_red.map_or(0, |finding| finding.code);
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let report = Report {
            checks: &findings,
            exit_code: code,
            seconds,
        };
        print_line(
            serde_json::to_string(&report).context("the findings cannot be written as JSON")?,
        )?;
    } else {
        for finding in &findings {
            print_line(finding.line())?;
        }
        let count = |status| {
            findings
                .iter()
                .filter(|found| found.status == status)
                .count()
        };
        print_line(format_args!(
            "{} red, {}, {seconds:.1} s",
            count(Status::Red),
            wording::counted(count(Status::Warn) as u64, "warning")
        ))?;
    }
    Ok(ExitCode::from(code))
}

/// What is printed for programs.
#[derive(Serialize)]
struct Report<'a> {
    checks: &'a [Finding],
    exit_code: u8,
    seconds: f64,
}

/// Runs the checks side by side, and gives up those that are not done at the deadline.
fn in_time(checks: Vec<(&'static str, Check)>, deadline: Instant) -> Vec<Finding> {
    let pending: Vec<_> = checks
        .into_iter()
        .map(|(name, check)| {
            let (sender, receiver) = mpsc::channel();
            // Not joined: what hangs ends with the process.
            std::thread::spawn(move || sender.send(check()));
            (name, receiver)
        })
        .collect();
    let late = |name| {
        let message = format!("no answer within {:.1} s", LIMIT.as_secs_f64());
        vec![Finding::warn(
            name,
            message,
            "try again when the machine is less busy",
        )]
    };
    pending
        .into_iter()
        .flat_map(|(name, receiver)| {
            let left = deadline.saturating_duration_since(Instant::now());
            receiver.recv_timeout(left).unwrap_or_else(|_| late(name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_given_up_and_said() {
        let hangs: Check = Box::new(|| {
            std::thread::sleep(Duration::from_secs(60));
            Vec::new()
        });
        let quick: Check = Box::new(|| vec![Finding::ok("quick", "done")]);
        let start = Instant::now();
        let deadline = start + Duration::from_millis(50);
        let findings = in_time(vec![("slow", hangs), ("quick", quick)], deadline);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(findings[0].status, Status::Warn);
        assert!(findings[0].line().contains("slow: no answer"));
    }

    #[test]
    fn a_red_line_says_what_to_do() {
        let finding = Finding::red("disk", 21, "1 GB free", "make room");
        assert_eq!(
            finding.line(),
            "red   disk: 1 GB free\n      fix: make room"
        );
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"check":"disk","status":"red","message":"1 GB free","fix":"make room"}"#
        );
    }
}
