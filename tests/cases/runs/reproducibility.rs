//! Equal runs give equal bytes, also where one of them was killed and continued.

use std::process::Stdio;
use std::time::Duration;

use end_to_end_tests::{Bench, tiny};

/// A model and a data set small enough for a second an epoch.
const TINY: &str = "--limit-train 150 --limit-test 20 --json";

fn train(bench: &Bench, run_dir: &str, more: &[&str]) {
    let flags = [&tiny(TINY)[..], &["--run-dir", run_dir], more].concat();
    bench.trainer(&flags).success();
}

#[test]
fn equal_seeds_give_equal_bytes_and_other_seeds_do_not() {
    let bench = Bench::new();
    train(&bench, "a", &["--epochs", "2"]);
    train(&bench, "b", &["--epochs", "2"]);
    bench.assert_same_run("a", "b");
    train(&bench, "c", &["--epochs", "2", "--seed", "8"]);
    assert_ne!(bench.read("a/metrics.csv"), bench.read("c/metrics.csv"));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let bench = Bench::new();
    for threads in ["1", "2", "5"] {
        let mut command = bench.trainer_command();
        let status = command
            .args(tiny(TINY))
            .args(["--epochs", "2", "--run-dir", threads])
            .env("RAYON_NUM_THREADS", threads)
            .stdout(Stdio::null())
            .status()
            .expect("the program starts");
        assert!(status.success());
    }
    bench.assert_same_run("1", "2");
    bench.assert_same_run("1", "5");
}

#[test]
fn dropout_and_augmentation_repeat_too_and_matter() {
    let bench = Bench::new();
    let flags = [
        "--epochs",
        "2",
        "--dropout",
        "0.2",
        "--augment",
        "flip-crop",
    ];
    train(&bench, "a", &flags);
    train(&bench, "b", &flags);
    bench.assert_same_run("a", "b");
    train(&bench, "c", &["--epochs", "2", "--augment", "flip-crop"]);
    assert_ne!(bench.read("a/metrics.csv"), bench.read("c/metrics.csv"));
    train(&bench, "d", &["--epochs", "2", "--dropout", "0.2"]);
    assert_ne!(bench.read("a/metrics.csv"), bench.read("d/metrics.csv"));
}

#[test]
fn a_stopped_run_continues_as_if_it_had_not_stopped() {
    let bench = Bench::new();
    train(&bench, "whole", &["--epochs", "4"]);
    train(&bench, "parts", &["--epochs", "1"]);
    train(&bench, "parts", &["--epochs", "3", "--resume"]);
    train(&bench, "parts", &["--epochs", "4", "--resume"]);
    bench.assert_same_run("whole", "parts");
    // Resuming a finished run changes nothing, and where nothing is yet, it begins.
    train(&bench, "parts", &["--epochs", "4", "--resume"]);
    bench.assert_same_run("whole", "parts");
    train(&bench, "fresh", &["--epochs", "4", "--resume=or-start"]);
    bench.assert_same_run("whole", "fresh");
}

#[test]
fn a_killed_run_continues_bit_for_bit() {
    let bench = Bench::new();
    train(&bench, "whole", &["--epochs", "12"]);
    let flags = [
        &tiny(TINY)[..],
        &["--run-dir", "killed", "--epochs", "12", "--resume=or-start"],
    ]
    .concat();
    let mut kills = 0;
    // Ever later, so that kills land at many places and the run still ends.
    for milliseconds in (200..).step_by(130) {
        let mut child = bench
            .trainer_command()
            .args(&flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the trainer starts");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().expect("killed, or gone already");
        if child.wait().expect("ended").success() {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills");
    bench.assert_same_run("whole", "killed");
}
