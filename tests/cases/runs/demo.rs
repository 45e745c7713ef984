//! The README's first command, and the numbers that stand beside it.

use end_to_end_tests::{Bench, workspace};
use serde_json::Value;

/// Relative: another CPU rounds sums in another order, and training amplifies that.
const TOLERANCE: f64 = 0.02;

/// The number in the second column of the README's row that begins with `| name |`.
fn expected(name: &str) -> f64 {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("a README");
    let row = readme
        .lines()
        .find(|line| line.starts_with(&format!("| {name} |")))
        .unwrap_or_else(|| panic!("no row `{name}` in the README"));
    let cell = row.split('|').nth(2).expect("a second column").trim();
    cell.parse()
        .unwrap_or_else(|error| panic!("{cell}: {error}"))
}

#[test]
fn the_demo_learns_and_ends_at_the_readmes_numbers() {
    let bench = Bench::new();
    let ended = bench.xtask(&["train", "--preset", "demo"]).success();
    assert!(
        !ended.stdout.contains('\u{1b}'),
        "no escape codes where there is no terminal"
    );

    let run = |name: &str| format!("runs/demo-seed-1/{name}");
    let metrics = bench.read_text(&run("metrics.jsonl"));
    let rows: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect();
    let losses: Vec<f64> = rows
        .iter()
        .map(|row| row["valid/loss"].as_f64().expect("a number"))
        .collect();
    assert!(losses.last() < losses.first(), "{losses:?}");

    let summary = bench.read_json(&run("summary.json"));
    for (name, value) in [
        ("training loss", &summary["last"]["train"]["loss"]),
        ("validation loss", &summary["best"]["valid"]["loss"]),
        ("test cross-entropy", &summary["test"]["cross_entropy"]),
    ] {
        let (found, expected) = (value.as_f64().expect("a number"), expected(name));
        assert!(
            (found / expected - 1.0).abs() < TOLERANCE,
            "{name}: {found}, the README says {expected}"
        );
    }

    for name in [
        "config.json",
        "environment.json",
        "metrics.csv",
        "timing.jsonl",
        "model.safetensors",
        "encoder.safetensors",
        "decoder.safetensors",
        "loss-curves.svg",
    ] {
        assert!(!bench.read(&run(name)).is_empty(), "{name}");
    }
    for name in [
        "samples/final-10x10.png",
        "samples/epoch-0001.png",
        "reconstructions/epoch-0001.png",
    ] {
        let picture = image::load_from_memory(&bench.read(&run(name))).expect("a picture");
        assert!(picture.width() > 10 * 32, "{name}");
    }
    let named = |path: &str| ended.stdout.contains(path);
    assert!(
        named("final-10x10.png") && named("loss-curves.svg"),
        "{}",
        ended.stdout
    );

    // A second run beside the first needs no flag either.
    let again = bench.xtask(&["train", "--preset", "demo", "--epochs", "0"]);
    again.failure(2, &["epochs"]);
}
