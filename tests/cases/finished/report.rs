//! The page that a finished run's report is.

use end_to_end_tests::{Bench, tiny};
use serde_json::Value;

#[test]
fn a_finished_runs_report_holds_the_numbers_of_its_summary() {
    let bench = Bench::new();
    let run = tiny("--limit-train 75 --limit-test 20 --epochs 2 --no-shortcuts --run-dir");
    let run = [&run[..], &["a & b"]].concat();
    let unfinished = ["report", "--run-dir", "a & b"];
    bench
        .trainer(&unfinished)
        .failure(2, &["no run", "train there first"]);
    bench.trainer(&run).success();
    let printed = bench.trainer(&unfinished).success().stdout;
    assert!(printed.trim().ends_with("report.html"), "{printed}");
    let html = bench.read_text("a & b/report.html");

    let summary = bench.read_json("a & b/summary.json");
    let number = |path: &str| {
        let value = summary.pointer(path).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("{path} in {summary:#}"))
    };
    for path in [
        "/test/loss",
        "/test/cross_entropy",
        "/test/excess",
        "/test/kl",
        "/best/valid/loss",
        "/best/train/excess",
        "/floor/train",
        "/floor/test",
    ] {
        let text = format!("{:.2}", number(path));
        assert!(html.contains(&text), "{path}: {text}");
    }
    assert_eq!(
        html.matches("<img").count(),
        4,
        "samples, reconstructions, traversals and interpolations"
    );
    assert_eq!(
        html.matches("<svg").count(),
        4,
        "three losses and the latent"
    );
    assert!(html.contains("a &amp; b") && html.contains("without shortcuts"));
    assert!(!html.contains("<script") && !html.contains("https://"));

    // The latent's part of the summary agrees with the KL divergence that was evaluated on its own.
    let list = |name: &str| -> Vec<f64> {
        let values = summary["latent"][name].as_array().expect("a list");
        values
            .iter()
            .map(|value| value.as_f64().expect("a number"))
            .collect()
    };
    let kl: f64 = list("kl_per_dimension").iter().sum();
    assert!((kl / number("/test/kl") - 1.0).abs() < 1e-5, "{kl}");
    let active = list("mean_variance")
        .iter()
        .filter(|variance| **variance > 0.01)
        .count();
    assert_eq!(number("/latent/active_dimensions"), active as f64);
    assert_eq!(list("mean_variance").len(), 4);
    assert_eq!(summary["images"]["train"], 75);
    let of_command = bench
        .trainer(&[
            "summary",
            "--depth",
            "28",
            "--width",
            "0.02",
            "--latent-dim",
            "4",
            "--no-shortcuts",
            "--json",
        ])
        .success()
        .json();
    for key in ["parameters", "multiply_accumulates_per_image"] {
        assert_eq!(summary[key], of_command[key], "{key}");
    }

    let page = ["report", "--run-dir", "a & b", "--out", "page.html"];
    bench.trainer(&page).success();
    assert_eq!(bench.read("page.html"), html.into_bytes());
}
