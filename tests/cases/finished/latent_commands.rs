//! Traversals, interpolations, mixture priors and statistics of draws, asked for what cannot be, and given files that others made.

use std::fs;

use end_to_end_tests::{Bench, tiny};
use serde_json::Value;

/// Without a price for the divergence its dimensions are used, so that a mixture has something to fit.
fn train(bench: &Bench, more: &[&str]) {
    let run = tiny("--limit-train 60 --limit-test 3 --beta 0 --run-dir r");
    bench.trainer(&[&run[..], more].concat()).success();
}

#[test]
fn what_no_sheet_can_hold_is_refused_and_a_small_test_set_is_enough() {
    let bench = Bench::new();
    train(&bench, &["--epochs", "1"]);
    let ask = |flags: &[&str]| {
        let out: &[&str] = if flags[0] == "sample-statistics" {
            &[]
        } else {
            &["--out", "s.png"]
        };
        bench.trainer(&[flags, &["--run-dir", "r"], out].concat())
    };
    for (flags, said) in [
        (&["traverse", "--columns", "2501"][..], "--columns"),
        (
            &["traverse", "--columns", "18446744073709551615"],
            "--columns",
        ),
        (&["traverse", "--columns", "0"], "--columns"),
        (&["traverse", "--range", "nan"], "--range"),
        (&["traverse", "--range", "inf"], "--range"),
        (&["traverse", "--range", "-1"], "--range"),
        (&["traverse", "--image", "3"], "there are 3 images"),
        (&["interpolate", "--columns", "10001"], "--columns"),
        (&["interpolate", "--pair", "0,3"], "there are 3 images"),
        (&["sample", "--temperature", "nan"], "--temperature"),
        (&["sample", "--prior", "mixture:0"], "mixture:K"),
        (&["sample", "--prior", "mixture:50"], "take at most"),
        (&["sample-statistics", "--images", "0"], "--images"),
        (&["sample-statistics", "--neighbours", "0"], "--neighbours"),
        (
            &["sample-statistics", "--neighbours", "18446744073709551615"],
            "--neighbours",
        ),
    ] {
        ask(flags).failure(2, &[said]);
        assert!(!bench.path("s.png").exists(), "{flags:?}");
    }
    // More dimensions than there are, one column, and three images for the default's five pairs.
    ask(&["traverse", "--dimensions", "99", "--columns", "1"]).success();
    ask(&["interpolate"]).success();
    let sheet = image::open(bench.path("s.png")).expect("a picture");
    assert_eq!(sheet.height() / 64, 2, "0 to 1, and 2 to itself");
    ask(&["sample-statistics", "--images", "3"]).success();
}

#[test]
fn a_mixture_belongs_to_the_weights_it_was_fitted_to() {
    let bench = Bench::new();
    train(
        &bench,
        &["--epochs", "1", "--beta", "1", "--learning-rate", "0.0001"],
    );
    let sample = |out: &str| {
        bench.trainer(&[
            "sample",
            "--run-dir",
            "r",
            "--rows",
            "1",
            "--prior",
            "mixture:2",
            "--out",
            out,
        ])
    };
    sample("a.png").success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    let of_first = bench.read("r/prior-mixture-2.json");
    let first_weights = bench.read("r/model.safetensors");

    // The run goes on; what was fitted to the weights before is not theirs.
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "6"])
        .success();
    assert!(
        bench.read("r/model.safetensors") != first_weights,
        "a later epoch is best"
    );
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    let again = sample("b.png").success();
    assert!(again.stderr.contains("fitted again"), "{}", again.stderr);
    assert!(bench.read("r/prior-mixture-2.json") != of_first);
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    let silent = sample("c.png").success();
    assert!(!silent.stderr.contains("fitted"), "{}", silent.stderr);
    assert!(bench.read("b.png") == bench.read("c.png"));

    // A file that was edited: sizes that no memory holds, numbers that are none of a model.
    let good = bench.read_json("r/prior-mixture-2.json");
    let edits: [fn(&mut Value); 5] = [
        |prior| prior["mixture"]["dimensions"] = 9_223_372_036_854_775_807u64.into(),
        |prior| prior["mixture"]["weights"][0] = 7.into(),
        |prior| prior["mixture"]["means"][0] = 1e300.into(),
        |prior| prior["dimensions"][0] = 4.into(),
        |prior| *prior = "mine".into(),
    ];
    for edit in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        fs::write(bench.path("r/prior-mixture-2.json"), bad.to_string()).expect("written");
        let refused = sample("d.png");
        assert!(
            matches!(refused.code, Some(2 | 20 | 21)),
            "{}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains("prior-mixture-2.json"),
            "{}",
            refused.stderr
        );
        assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
        let verified = bench.trainer(&["verify-run", "--run-dir", "r"]);
        assert!(
            verified.stdout.contains("BAD  prior-mixture-2.json"),
            "{}",
            verified.stdout
        );
    }
    assert!(!bench.path("d.png").exists());
}

#[cfg(unix)]
#[test]
fn a_leading_tilde_is_the_home_folder_in_every_command() {
    let bench = Bench::new();
    train(&bench, &["--epochs", "1"]);
    let at_home = |flags: &[&str]| {
        let output = bench
            .trainer_command()
            .args(flags)
            .env("HOME", bench.path("."))
            .output()
            .expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{flags:?}: {stderr}");
    };
    at_home(&["traverse", "--run-dir=~/r", "--out=~/t.png"]);
    at_home(&["interpolate", "--run-dir=~/r", "--out=~/i.png"]);
    at_home(&["sample-statistics", "--run-dir=~/r", "--images", "3"]);
    assert!(bench.path("t.png").is_file() && bench.path("i.png").is_file());
    assert!(!bench.path("~").exists());
}

/// A folder that was handed over: its links lead nowhere, and its summary may tell of dimensions that there are not.
#[cfg(unix)]
#[test]
fn what_the_latents_tell_is_written_into_the_run_folder_and_nowhere_else() {
    let bench = Bench::new();
    train(&bench, &["--epochs", "1"]);
    fs::write(bench.path("victim"), "keep me\n").expect("written");
    for name in [
        "traversals.png",
        "interpolations.png",
        "latents.json",
        "report.html",
    ] {
        std::os::unix::fs::symlink("../victim", bench.path(&format!("r/{name}"))).expect("linked");
    }
    bench.trainer(&["latents", "--run-dir", "r"]).success();
    bench.trainer(&["report", "--run-dir", "r"]).success();
    assert_eq!(bench.read("victim"), b"keep me\n");
    assert!(!bench.path("r/traversals.png").is_symlink());

    let summary = bench.read("r/summary.json");
    let mut edited: Value = serde_json::from_slice(&summary).expect("JSON");
    for list in ["kl_per_dimension", "mean_variance"] {
        let longer: Vec<f64> = (0..40).map(f64::from).collect();
        edited["latent"][list] = longer.into();
    }
    fs::write(bench.path("r/summary.json"), edited.to_string()).expect("written");
    bench
        .trainer(&["latents", "--run-dir", "r"])
        .failure(21, &["summary.json", "40 latent dimensions"]);
    fs::remove_file(bench.path("r/latents.json")).expect("removed");
    let told = bench.trainer(&["report", "--run-dir", "r"]).success();
    assert!(
        told.stderr.contains("40 latent dimensions"),
        "{}",
        told.stderr
    );
    for flags in [
        ["--images", "18446744073709551615"],
        ["--batch-size", "18446744073709551615"],
    ] {
        let fid = ["fid", "--run-dir", "r", "--weights", "none.pth"];
        bench
            .trainer(&[&fid[..], &flags].concat())
            .failure(2, &[flags[0]]);
    }
}
