//! Settings from flags, environment, file, preset and defaults, through the real program.

use end_to_end_tests::Bench;

#[test]
fn flags_win_over_the_environment_and_that_over_a_file_and_that_over_a_preset() {
    let bench = Bench::new();
    std::fs::write(
        bench.path("c.json"),
        r#"{"batch_size": 7, "latent_dim": 7, "dropout": 0.5}"#,
    )
    .expect("written");
    let output = bench
        .trainer_command()
        .args([
            "train",
            "--preset",
            "demo",
            "--config",
            "c.json",
            "--batch-size",
            "9",
            "--print-config",
            "--json",
        ])
        .env("BATCH_SIZE", "8")
        .env("LATENT_DIM", "8")
        .output()
        .expect("the trainer runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let config: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let text = config.to_string();
    for (key, value) in [
        ("batch_size", "9"),
        ("latent_dim", "8"),
        ("dropout", "0.5"),
        ("depth", "28"),
    ] {
        let entry = config
            .get(key)
            .or_else(|| config["settings"].get(key))
            .unwrap_or_else(|| panic!("{key}: {text}"));
        let found = entry.get("value").unwrap_or(entry);
        assert_eq!(found.to_string(), value, "{key} in {text}");
    }
    assert!(!bench.path("runs").exists(), "nothing is written");
}

#[test]
fn unknown_and_impossible_values_are_refused_with_the_nearest_and_the_range() {
    let bench = Bench::new();
    bench
        .trainer(&["train", "--batch-sise", "9"])
        .failure(2, &["--batch-size"]);
    bench
        .trainer(&["train", "--depth", "29"])
        .failure(2, &["28", "100"]);
    bench
        .trainer(&["train", "--dropout", "1.5"])
        .failure(2, &["dropout", "1.5"]);
    std::fs::write(bench.path("c.json"), r#"{"batch_sise": 7}"#).expect("written");
    bench
        .trainer(&["train", "--config", "c.json"])
        .failure(2, &["batch_sise", "batch_size", "c.json"]);
    let output = bench
        .trainer_command()
        .args(["train", "--print-config"])
        .env("RESNET_DEPTH", "4")
        .output();
    let output = output.expect("the trainer runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("RESNET_DEPTH"));
}

#[test]
fn summary_gives_the_experiments_parameter_counts() {
    let bench = Bench::new();
    let summary = bench
        .xtask(&["summary", "--depth", "70", "--json"])
        .success()
        .json();
    assert_eq!(summary["parameters"]["encoder"], 26_980_544);
    assert_eq!(summary["parameters"]["decoder"], 16_782_083);
    assert_eq!(summary["parameters"]["total"], 43_762_627);
    assert_eq!(summary["layers"], 70);
}
