//! What can be done with a finished run.

use end_to_end_tests::{Bench, tiny};

#[test]
fn a_finished_run_samples_evaluates_and_reconstructs() {
    let bench = Bench::new();
    bench
        .trainer(&tiny(
            "--limit-train 100 --limit-test 30 --epochs 1 --run-dir r",
        ))
        .success();

    bench
        .trainer(&["sample", "--run-dir", "r", "--out", "s.png"])
        .success();
    let sheet = image::open(bench.path("s.png")).expect("a picture");
    assert_eq!(sheet.width(), sheet.height());
    assert_eq!(
        bench.read("s.png"),
        bench.read("r/samples/final-10x10.png"),
        "the same seed, the same sheet"
    );

    let test = bench
        .trainer(&["evaluate", "--run-dir", "r", "--split", "test", "--json"])
        .success()
        .json();
    assert_eq!(test["images"], 30);
    let summary = bench.read_json("r/summary.json");
    assert_eq!(
        test["terms"], summary["test"],
        "a final score is the same whenever it is taken"
    );

    // Each image counts alike, whatever the batch; another batch size draws other noise only for the latent.
    let value =
        |json: &serde_json::Value, name: &str| json["terms"][name].as_f64().expect("a number");
    let short = [
        "evaluate",
        "--run-dir",
        "r",
        "--split",
        "test",
        "--batch-size",
        "7",
        "--json",
    ];
    let short = bench.trainer(&short).success().json();
    assert!(
        (value(&short, "kl") / value(&test, "kl") - 1.0).abs() < 1e-5,
        "{short} {test}"
    );

    bench
        .trainer(&[
            "reconstruct",
            "--run-dir",
            "r",
            "--image",
            "s.png",
            "--out",
            "g.png",
        ])
        .success();
    let pair = image::open(bench.path("g.png")).expect("a picture");
    assert!(pair.width() > 2 * 32 && pair.width() > pair.height());
}
