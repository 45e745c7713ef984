//! Data that is not there, that moved, and that is another.

use std::fs;

use end_to_end_tests::Bench;

use super::train;

#[test]
fn without_data_only_those_who_ask_for_the_sample_get_it() {
    let bench = Bench::new();
    let small = [
        "train",
        "--depth",
        "28",
        "--width",
        "0.02",
        "--latent-dim",
        "4",
        "--limit-train",
        "50",
        "--limit-test",
        "10",
        "--epochs",
        "1",
        "--run-dir",
    ];
    for more in [&["a"][..], &["b", "--preset", "depth28"]] {
        bench
            .trainer(&[&small[..], more].concat())
            .failure(12, &["cargo xtask download", "--data-dir", "--data sample"]);
    }
    bench
        .trainer(&["bench-depths", "--width", "0.02", "--seeds", "1"])
        .failure(12, &["cargo xtask download"]);
    bench
        .trainer(&[&small[..], &["c", "--data", "sample"]].concat())
        .success();
    let score = bench
        .trainer(&["evaluate", "--run-dir", "c", "--json"])
        .success()
        .json();
    assert_eq!(score["data_set"], "cifar-10-sample");
    assert_eq!(score["data_source"], "embedded sample");
    assert_eq!(score["images"], 10);
    bench
        .trainer(&["train", "--run-dir", "c", "--resume", "--epochs", "2"])
        .success();
}

#[test]
fn a_run_is_scored_on_its_own_data_or_not_at_all() {
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "r"])).success();
    // As if it had been trained on all of CIFAR-10, and handed over.
    let manifest = "r/checkpoints/epoch-0001-batch-00000/manifest.json";
    fs::remove_file(bench.path(manifest)).expect("removed");
    let environment = bench.read_text("r/environment.json");
    let environment: serde_json::Value = serde_json::from_str(&environment).expect("JSON");
    let mut other = environment.clone();
    other["data_hash"] = "0123456789abcdef0123456789abcdef".into();
    other["data_source"] = "/mnt/all-of-cifar".into();
    fs::write(bench.path("r/environment.json"), other.to_string()).expect("written");
    bench.trainer(&["evaluate", "--run-dir", "r"]).failure(
        12,
        &[
            "/mnt/all-of-cifar",
            "cifar-10-sample",
            "embedded sample",
            "--data-dir",
        ],
    );
    bench
        .trainer(&["train", "--run-dir", "r", "--resume"])
        .failure(12, &["/mnt/all-of-cifar", "give the run's data"]);
    fs::write(bench.path("r/environment.json"), environment.to_string()).expect("written");
    let score = bench.trainer(&["evaluate", "--run-dir", "r"]).success();
    assert!(score.stdout.contains("cifar-10-sample"), "{}", score.stdout);
}

#[test]
fn the_folder_of_the_six_files_works_by_its_own_name() {
    let bench = Bench::new();
    // The sample's members, as a folder.
    let sample = end_to_end_tests::workspace().join("crates/cifar-loader/data");
    let container = fs::read_dir(sample)
        .expect("listed")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(".tar.gz"));
    let unpacked = bench
        .command("tar")
        .arg("xzf")
        .arg(container.expect("the sample"))
        .status();
    assert!(unpacked.expect("tar is there").success());
    let folder = "cifar-10-sample-bin";
    bench
        .trainer(&train(&["--run-dir", "a", "--data-dir", "."]))
        .success();
    bench
        .trainer(&train(&["--run-dir", "b", "--data-dir", folder]))
        .success();
    assert!(bench.read("a/model.safetensors") == bench.read("b/model.safetensors"));
    fs::create_dir_all(bench.path("d/cifar-10-batches-bin")).expect("created");
    let nested = bench
        .trainer(&train(&["--data-dir", "d/cifar-10-batches-bin"]))
        .failure(12, &["cargo xtask download --data-dir d`"]);
    assert!(
        !nested.stderr.contains("batches-bin`, or"),
        "{}",
        nested.stderr
    );
}
