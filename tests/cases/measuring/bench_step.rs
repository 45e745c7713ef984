//! `bench-step`: what it measures, what it compares with, and what it draws.

use end_to_end_tests::Bench;
use serde_json::Value;

const TINY: [&str; 13] = [
    "bench-step",
    "--depth",
    "28",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--batch-size",
    "4",
    "--steps",
    "3",
    "--warmup",
    "1",
];

fn json(bench: &Bench, more: &[&str]) -> Value {
    let flags = [&TINY[..], &["--json"], more].concat();
    let ended = bench.xtask(&flags);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{pointer} is no number in {value}"))
}

#[test]
fn phases_make_up_the_step() {
    let bench = Bench::new();
    let result = json(&bench, &[]);
    let step = number(&result, "/seconds_per_step");
    let phases: Vec<f64> = ["data", "forward", "backward", "optimizer"]
        .map(|phase| number(&result, &format!("/phases/{phase}_seconds")))
        .into();
    assert!(phases.iter().all(|seconds| *seconds > 0.0), "{phases:?}");
    // Medians of parts need not add up to the median of the whole; they lie about where the steps do.
    let sum: f64 = phases.iter().sum();
    let [fastest, slowest] = ["/fastest", "/slowest"].map(|name| number(&result, name));
    assert!(
        0.5 * fastest < sum && sum < 2.0 * slowest,
        "{sum}, steps {fastest} to {slowest}"
    );
    assert!((number(&result, "/images_per_second") * step / 4.0 - 1.0).abs() < 1e-9);
    assert!(number(&result, "/fastest") <= step && step <= number(&result, "/slowest"));
    assert!(number(&result, "/peak_bytes") > 1e6);
    assert!(number(&result, "/first_step_seconds") > 0.0);
}

#[test]
fn evaluation_has_no_backward_pass() {
    let bench = Bench::new();
    let result = json(&bench, &["--evaluation"]);
    assert_eq!(number(&result, "/phases/backward_seconds"), 0.0);
    assert_eq!(number(&result, "/phases/optimizer_seconds"), 0.0);
    assert!(number(&result, "/phases/forward_seconds") > 0.0);
}

#[test]
fn burns_own_layers_can_be_timed_too() {
    let bench = Bench::new();
    assert!(number(&json(&bench, &["--plain-layers"]), "/seconds_per_step") > 0.0);
}

#[test]
fn batch_depth_and_pixels_grow_one_after_the_other() {
    let bench = Bench::new();
    let flags = [&TINY[..], &["--scaling", "out"]].concat();
    let ended = bench.xtask(&flags);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let csv = bench.read_text("out/scaling.csv");
    assert_eq!(csv, ended.stdout);
    for (grows, rows) in [("batch size", 5), ("depth", 4), ("pixels an image", 4)] {
        let found = csv
            .lines()
            .filter(|line| line.starts_with(&format!("{grows},")));
        assert_eq!(found.count(), rows, "{csv}");
    }
    assert!(bench.read("out/scaling.svg").starts_with(b"<svg"));
}

#[cfg(unix)]
mod against_pytorch {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A Python that reads the script, keeps what it was asked, and says that a step took so long.
    fn python(bench: &Bench) {
        let path = bench.path("python");
        let text = r#"#!/bin/sh
grep -q 'class Bottleneck' || exit 1
echo "$*" >> asked
case "$*" in
  *contiguous*) seconds=0.5 ;;
  *) seconds=1000.0 ;;
esac
echo "a warning"
echo "{\"version\": \"9.9\", \"seconds_per_step\": $seconds, \"peak_bytes\": 1048576}"
"#;
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("executable");
    }

    #[test]
    fn the_fastest_form_is_compared_with() {
        let bench = Bench::new();
        python(&bench);
        let forms = "channels-last,contiguous";
        let flags = [
            "--against-pytorch",
            "./python",
            "--rounds",
            "2",
            "--pytorch-forms",
            forms,
        ];
        let result = json(&bench, &flags);
        assert_eq!(result["pytorch"]["form"], "contiguous");
        assert_eq!(number(&result, "/pytorch/seconds_per_step"), 0.5);
        assert_eq!(number(&result, "/pytorch/forms/channels-last"), 1000.0);
        let keys = |value: &Value| -> Vec<String> {
            let object = value.as_object().expect("an object");
            object.keys().cloned().collect()
        };
        let of_pytorch = &result["pytorch"];
        assert_eq!(
            keys(of_pytorch),
            [
                "seconds_per_step",
                "form",
                "forms",
                "version",
                "peak_bytes",
                "times_pytorch"
            ]
        );
        // The fastest first.
        assert_eq!(keys(&of_pytorch["forms"]), ["contiguous", "channels-last"]);
        let ratio = number(&result, "/pytorch/times_pytorch");
        assert!((ratio * 0.5 / number(&result, "/seconds_per_step") - 1.0).abs() < 1e-9);
        let asked = bench.read_text("asked");
        let asked: Vec<&str> = asked.lines().collect();
        assert_eq!(asked.len(), 4, "two forms, two rounds, in turn");
        assert!(asked[0].contains("--depth 28") && asked[0].contains("--batch 4"));
        assert!(asked[1].contains("--layout contiguous") && !asked[2].contains("--layout"));
    }

    #[test]
    fn a_python_without_pytorch_is_told() {
        let bench = Bench::new();
        let flags = [&TINY[..], &["--against-pytorch", "no-such-python"]].concat();
        let ended = bench.xtask(&flags);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("no-such-python"), "{}", ended.stderr);
    }
}
