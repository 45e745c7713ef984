//! Run folders in the states that a process leaves which ends between two files, and with files that somebody has lost.

use std::fs;

use end_to_end_tests::{Bench, tiny};

/// A tiny run of one epoch, and flags besides.
const TINY: &str = "--limit-train 50 --limit-test 10 --run-dir r";

fn train(more: &str) -> Vec<&str> {
    [tiny(TINY), more.split_whitespace().collect()].concat()
}

fn resume(more: &'static str) -> Vec<&'static str> {
    let flags = ["train", "--resume", "--run-dir", "r"];
    flags.into_iter().chain(more.split_whitespace()).collect()
}

fn verify(bench: &Bench) {
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
}

#[test]
fn a_run_whose_time_was_never_written_counts_all_the_same() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 1")).success();
    fs::write(bench.path("r/timing.jsonl"), "").expect("emptied");
    fs::remove_file(bench.path("r/files.json")).expect("removed");
    // It lists the files anew, and has no epoch left whose time could be taken.
    bench.trainer(&resume("")).success();
    assert_eq!(bench.read_text("r/timing.jsonl"), "");
    bench.trainer(&["report", "--run-dir", "r"]).success();
    let page = bench.read_text("r/report.html");
    assert!(page.contains("Best validation loss") && !page.contains("Training time"));
    verify(&bench);
}

#[test]
fn a_change_of_settings_holds_from_its_record_on() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 2")).success();
    let newest = "r/checkpoints/epoch-0002-batch-00000/manifest.json";
    let before = bench.read(newest);
    let change = "--allow-config-change --learning-rate 0.0005";
    bench.trainer(&resume(change)).success();
    assert_ne!(bench.read(newest), before);

    // As where the process was killed before it noted the change in the checkpoint.
    fs::write(bench.path(newest), &before).expect("written");
    verify(&bench);
    bench.trainer(&resume("")).success();

    // And where the newest checkpoint is lost, which alone had the note.
    fs::remove_dir_all(bench.path("r/checkpoints/epoch-0002-batch-00000")).expect("removed");
    bench
        .trainer(&["sample", "--run-dir", "r", "--count", "1", "--out", "s.png"])
        .success();
    bench.trainer(&resume("")).success();
    verify(&bench);

    // What no record tells of is an edit.
    let config = bench.read_text("r/config.json");
    let edited = config.replace("0.0005", "0.0007");
    assert_ne!(edited, config);
    fs::write(bench.path("r/config.json"), edited).expect("written");
    let found = bench.trainer(&["verify-run", "--run-dir", "r"]);
    assert_eq!(found.code, Some(2), "{}", found.stderr);
    assert!(
        found.stdout.contains("BAD  config.json"),
        "{}",
        found.stdout
    );
    bench.trainer(&resume("")).failure(2, &["0.0005 -> 0.0007"]);
}

#[test]
fn a_lost_configuration_comes_back_from_the_newest_checkpoint() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 1 --seed 5")).success();
    fs::remove_file(bench.path("r/config.json")).expect("removed");
    bench
        .trainer(&["evaluate", "--run-dir", "r"])
        .failure(2, &["config.json is missing", "--resume"]);
    let resumed = bench.trainer(&resume("--epochs 2")).success();
    assert!(
        resumed.stderr.contains("config.json was missing"),
        "{}",
        resumed.stderr
    );
    assert_eq!(bench.rows("r").len(), 2);
    let config = bench.read_json("r/config.json");
    assert_eq!([&config["seed"], &config["epochs"]], [5, 2]);
    verify(&bench);
}

#[test]
fn nothing_is_trained_again_over_a_trained_run_or_begun_by_a_bare_resume() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 1")).success();
    let metrics = bench.read("r/metrics.jsonl");
    fs::remove_dir_all(bench.path("r/checkpoints")).expect("removed");
    for resume in ["--resume", "--resume=or-start"] {
        bench
            .trainer(&["train", resume, "--run-dir", "r"])
            .failure(20, &["1 trained epoch", "no checkpoint"]);
    }
    assert_eq!(bench.read("r/metrics.jsonl"), metrics);

    // A process that was killed before it had written the settings has left no more than its lock.
    fs::create_dir(bench.path("begun")).expect("created");
    fs::write(bench.path("begun/lock"), "").expect("written");
    bench
        .trainer(&[
            "train",
            "--resume",
            "--run-dir",
            "begun",
            "--data",
            "sample",
        ])
        .failure(2, &["nothing to resume"]);
}

#[test]
fn what_killed_processes_left_is_cleared_away() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 1")).success();
    let left = [
        "r/checkpoints/epoch-0001-batch-00000.old",
        "r/model.safetensors.77.tmp",
        "r/samples/epoch-0001.png.77.tmp",
    ];
    let own = "r/mine.safetensors.77.tmp";
    fs::create_dir(bench.path(left[0])).expect("created");
    for name in [left[1], left[2], own] {
        fs::write(bench.path(name), "half").expect("written");
    }
    bench.trainer(&resume("")).success();
    for name in left {
        assert!(!bench.path(name).exists(), "{name}");
    }
    assert!(bench.path(own).exists());
}

#[test]
fn damage_shows_also_where_the_list_of_files_was_not_written_and_an_old_prior_is_none() {
    let bench = Bench::new();
    bench.trainer(&train("--epochs 1")).success();
    fs::write(bench.path("r/files.json"), "{\"format\": 1, \"files\": []}").expect("written");
    verify(&bench);
    let mut weights = bench.read("r/model.safetensors");
    let last = weights.len() - 1;
    weights[last] ^= 1;
    fs::write(bench.path("r/model.safetensors"), weights).expect("written");
    bench
        .trainer(&["verify-run", "--run-dir", "r"])
        .failure(20, &["damaged"]);

    // Resuming mends it, and better weights make a mixture that was fitted before no damage.
    bench.trainer(&resume("")).success();
    let sample = ["sample", "--run-dir", "r", "--prior", "mixture:1"];
    let flags = [&sample[..], &["--count", "1", "--out", "s.png"]].concat();
    bench.trainer(&flags).success();
    assert!(bench.path("r/prior-mixture-1.json").exists());
    bench.trainer(&resume("--epochs 3")).success();
    verify(&bench);
}

#[test]
fn the_newest_of_the_default_folders_is_resumed_also_behind_a_gap() {
    let bench = Bench::new();
    let start = |more: &'static str| {
        let flags = "--limit-train 50 --limit-test 10 --epochs 1 --seed 3";
        let flags = flags.split(' ').chain(more.split_whitespace());
        bench
            .trainer(&[tiny(""), flags.collect()].concat())
            .success()
    };
    start("");
    start("");
    let [first, second] = ["runs/demo-seed-3", "runs/demo-seed-3-2"];
    fs::remove_dir_all(bench.path(first)).expect("removed");
    let resumed = start("--resume");
    assert!(resumed.stdout.contains(second), "{}", resumed.stdout);
    assert!(!bench.path(first).exists());
}
