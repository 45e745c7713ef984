//! A sweep over depths: its tables, and that it may be stopped at any point.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;
use serde_json::Value;

/// Two depths, one seed, models and data small enough for a second an epoch.
const SMALL: [&str; 18] = [
    "bench-depths",
    "--preset",
    "demo",
    "--depths",
    "28,40",
    "--seeds",
    "1",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--limit-train",
    "100",
    "--limit-test",
    "20",
    "--epochs",
    "3",
    "--json",
];

/// Columns of `table.csv` that read a clock or a gauge of memory; equal sweeps may differ in them.
const MEASURED: [&str; 4] = [
    "train_seconds",
    "seconds_per_epoch",
    "images_per_second",
    "peak_memory_mebibytes",
];

fn sweep(out: &str, more: &[&'static str]) -> Vec<String> {
    let flags = SMALL.iter().chain(more).map(ToString::to_string);
    flags.chain(["--out".to_owned(), out.to_owned()]).collect()
}

/// The cells of `table.csv`, without the measured columns.
fn table(bench: &Bench, out: &str) -> Vec<Vec<String>> {
    let text = bench.read_text(&format!("{out}/table.csv"));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let kept: Vec<usize> = (0..rows[0].len())
        .filter(|column| {
            !MEASURED
                .iter()
                .any(|name| rows[0][*column].starts_with(name))
        })
        .collect();
    assert_eq!(kept.len(), rows[0].len() - 2 * MEASURED.len());
    rows.iter()
        .map(|row| kept.iter().map(|column| row[*column].to_owned()).collect())
        .collect()
}

fn results(bench: &Bench, out: &str) -> Value {
    bench.read_json(&format!("{out}/results.json"))
}

fn states(results: &Value) -> Vec<&str> {
    let runs = results["runs"].as_array().expect("runs").iter();
    runs.map(|run| run["state"].as_str().expect("a state"))
        .collect()
}

/// Starts a sweep in a process group of its own, as a shell does.
fn start(bench: &Bench, out: &str) -> Child {
    let mut command = bench.trainer_command();
    command
        .args(sweep(out, &[]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().expect("the sweep starts")
}

/// Kills a sweep and the run it is making.
fn kill_group(child: &Child) {
    let group = format!("-{}", child.id());
    let killed = Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(Stdio::null())
        .status();
    killed.expect("there is a program to kill others");
}

#[cfg(unix)]
#[test]
fn a_sweep_killed_anywhere_ends_with_the_same_table() {
    let bench = Bench::new();
    // Builds the program where needed, which must not count as a sweep's time.
    let _ = bench.trainer_command();
    let began = Instant::now();
    bench.trainer(&sweep("whole", &[])).success();
    let whole = began.elapsed();
    let expected = table(&bench, "whole");
    assert_eq!(expected.len(), 3, "a heading and two depths");

    let mut kills = 0;
    // Ever later, so that kills land at many places and the sweep still ends. In sixteenths of an uninterrupted sweep, on
    // a machine of any speed: the first five kills come before 15 of 16 parts of the work can be done. Every third one
    // hits the parent alone, whose run must then end by itself.
    for turn in 1.. {
        let mut child = start(&bench, "killed");
        let deadline = Instant::now() + whole * turn / 16;
        let ended = loop {
            if let Some(status) = child.try_wait().expect("its state is known") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        if turn % 3 == 0 {
            child.kill().expect("killed, or gone already");
        } else {
            kill_group(&child);
        }
        child.wait().expect("ended");
        kills += 1;
    }
    // Fewer than five only where the machine was busier before than after.
    assert!(kills >= 3, "only {kills} kills");
    assert_eq!(table(&bench, "killed"), expected);
    let results = results(&bench, "killed");
    assert_eq!(states(&results), ["finished", "finished"]);
    // Nothing was begun twice: a run that is half done was continued where it lay.
    let folders = std::fs::read_dir(bench.path("killed/runs")).expect("listed");
    assert_eq!(folders.count(), 2);
}

#[test]
fn finished_runs_are_known_by_what_they_are_and_a_failed_one_does_not_stop_the_others() {
    let bench = Bench::new();
    let mut flags = sweep("s", &[]);
    // One epoch, so that this test is short.
    let epochs = flags.iter().position(|flag| flag == "3").expect("epochs");
    flags[epochs] = "1".to_owned();
    // A file where a checkpoint belongs: the first run cannot be written, the second can.
    let blocked = "s/runs/depth28-residual-seed-1";
    std::fs::create_dir_all(bench.path(blocked)).expect("created");
    std::fs::write(bench.path(&format!("{blocked}/checkpoints")), b"").expect("written");
    let ended = bench.trainer(&flags);
    ended.failure(40, &["1 of 2 runs failed", "table.md"]);
    let failed = results(&bench, "s");
    assert_eq!(states(&failed), ["failed", "finished"]);
    assert!(failed["runs"][0]["failure"]["message"].is_string());
    let page = bench.read_text("s/table.md");
    assert!(page.contains("## Failed runs") && page.contains("depth 28, residual, seed 1"));

    // The cause is gone, and the finished run has another name: the same command makes what is missing.
    std::fs::remove_file(bench.path(&format!("{blocked}/checkpoints"))).expect("removed");
    std::fs::rename(
        bench.path("s/runs/depth40-residual-seed-1"),
        bench.path("s/runs/renamed"),
    )
    .expect("renamed");
    let summary = bench.read("s/runs/renamed/summary.json");
    bench.trainer(&flags).success();
    assert_eq!(states(&results(&bench, "s")), ["finished", "finished"]);
    assert!(!bench.path("s/runs/depth40-residual-seed-1").exists());
    assert!(bench.read("s/runs/renamed/summary.json") == summary);
    let report = bench.read_text("s/report.html");
    assert!(report.contains("depth 40, residual") && !report.contains("<script src"));

    bench
        .trainer(&["bench-depths", "--depths", "28,28", "--out", "t"])
        .failure(2, &["28", "--depths"]);
    bench
        .trainer(&["bench-depths", "--depths", "34", "--out", "t"])
        .failure(2, &["34", "28, 40, 70"]);
}
