//! What cannot be done is said in one line, with the next step and its own exit code.

use end_to_end_tests::{Bench, tiny};

const TINY: &str = "--latent-dim 32 --limit-train 50 --limit-test 10";

fn train(more: &[&'static str]) -> Vec<&'static str> {
    [&tiny(TINY)[..], more].concat()
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let bench = Bench::new();
    let program = bench.trainer_command().get_program().to_owned();
    let ended = bench
        .command("sh")
        .args([
            "-c",
            "\"$0\" summary --depth 28 --json | true; \"$0\" summary --depth 28 | head -1",
        ])
        .arg(program)
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    assert!(String::from_utf8_lossy(&ended.stdout).starts_with("depth 28"));
}

#[test]
fn a_run_folder_in_use_is_refused_without_resume() {
    let bench = Bench::new();
    bench
        .trainer(&train(&["--epochs", "1", "--run-dir", "r"]))
        .success();
    bench
        .trainer(&train(&["--epochs", "1", "--run-dir", "r"]))
        .failure(2, &["--resume", "--run-dir"]);
}

#[test]
fn a_resumed_run_must_be_the_same_run() {
    let bench = Bench::new();
    bench
        .trainer(&train(&["--epochs", "1", "--run-dir", "r"]))
        .success();
    let other = train(&[
        "--epochs",
        "2",
        "--run-dir",
        "r",
        "--resume",
        "--learning-rate",
        "0.01",
    ]);
    bench.trainer(&other).failure(2, &["learning_rate"]);
}

#[test]
fn a_backend_that_is_not_compiled_in_is_named_with_the_command_that_has_it() {
    let bench = Bench::new();
    let ended = bench.trainer(&train(&["--device", "cuda:0"]));
    ended.failure(
        2,
        &["feature `cuda`", "cargo xtask COMMAND --device cuda:0"],
    );
    let ended = bench.trainer(&train(&["--device", "vulkan:0"]));
    ended.failure(
        2,
        &["feature `vulkan`", "cargo xtask COMMAND --device vulkan:0"],
    );
}

#[test]
fn a_folder_without_data_says_how_to_get_it() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("empty")).expect("created");
    bench
        .trainer(&train(&["--data-dir", "empty"]))
        .failure(12, &["cargo xtask download"]);
}

#[test]
fn a_damaged_data_set_is_refused_by_its_hash() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("d/cifar-10-batches-bin")).expect("created");
    for name in [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ] {
        let file = std::fs::File::create(bench.path(&format!("d/cifar-10-batches-bin/{name}.bin")))
            .expect("created");
        file.set_len(30_730_000).expect("sized");
    }
    bench
        .trainer(&train(&["--data-dir", "d"]))
        .failure(11, &["data_batch_1.bin", "cargo xtask download"]);
}

#[test]
fn a_learning_rate_that_no_training_survives_is_refused_with_its_range() {
    let bench = Bench::new();
    let flags = train(&["--epochs", "3", "--run-dir", "r", "--learning-rate", "1e20"]);
    bench
        .trainer(&flags)
        .failure(2, &["learning_rate", "at most 1"]);
}

#[test]
fn training_that_diverges_stops_with_its_own_code_and_can_be_continued() {
    let bench = Bench::new();
    let flags = train(&["--epochs", "30", "--run-dir", "r", "--learning-rate", "1"]);
    bench
        .trainer(&flags)
        .failure(30, &["divergence.json", "--allow-config-change"]);
    let report = bench.read_json("r/divergence.json");
    assert!(report["step"].is_u64() && report["last_losses"].is_array());
    let epochs = report["epoch"].as_u64().expect("a number").to_string();
    let cure = [
        "train",
        "--run-dir",
        "r",
        "--resume",
        "--from-best",
        "--allow-config-change",
        "--learning-rate",
        "0.001",
        "--epochs",
        &epochs,
    ];
    bench.trainer(&cure).success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
}

#[test]
fn commands_on_a_folder_without_a_run_say_so() {
    let bench = Bench::new();
    for arguments in [
        &["sample", "--run-dir", "nowhere", "--out", "x.png"][..],
        &[
            "evaluate",
            "--run-dir",
            "nowhere",
            "--split",
            "test",
            "--json",
        ],
        &[
            "reconstruct",
            "--run-dir",
            "nowhere",
            "--image",
            "x.png",
            "--out",
            "y.png",
        ],
    ] {
        bench
            .trainer(arguments)
            .failure(2, &["nowhere", "cargo xtask train"]);
    }
}
