//! Runs of older programs.

use std::path::Path;

use end_to_end_tests::Bench;
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the older run") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Two epochs by the program of commit 71729a4 (2026-11-25), before there were likelihoods, ranks and a record of the format:
/// `trainer train --preset demo --width 0.02 --latent-dim 4 --epochs 2 --limit-train 40 --limit-test 20 --seed 3 --run-dir r`.
#[test]
fn a_run_of_an_older_program_is_scored_as_it_was_and_goes_on() {
    let bench = Bench::new();
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/run-of-71729a4");
    copy(&older, &bench.path("r"));
    let summary = bench.read_json("r/summary.json");

    let scored = bench.trainer(&["evaluate", "--run-dir", "r", "--json"]);
    let scored = scored.success().json();
    for (term, expected) in summary["test"].as_object().expect("terms") {
        let number = |value: &Value| value.as_f64().expect("a number");
        let (found, expected) = (number(&scored["terms"][term]), number(expected));
        // Processors with other vector units round otherwise.
        assert!(
            (found - expected).abs() <= 1e-5 * expected.abs(),
            "{term}: {found} and {expected}"
        );
    }
    let arguments = "evaluate --run-dir r --likelihood renormalised-bernoulli --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let rescored = bench.trainer(&arguments).success().json();
    let bits = rescored["bits_per_dim"].as_f64().expect("a number");
    // Of a model that has seen ten steps; that of evenly spread levels has 8.
    assert!((7.5..8.5).contains(&bits), "{bits}");

    let before = bench.rows("r");
    let arguments = ["train", "--run-dir", "r", "--resume", "--epochs", "3"];
    bench.trainer(&arguments).success();
    let rows = bench.rows("r");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[..2], before[..]);
    let loss = |row: &Value| row["train/loss"].as_f64().expect("a number");
    assert!(
        loss(&rows[2]) < loss(&rows[1]),
        "training goes on where it was: {rows:?}"
    );
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
}
