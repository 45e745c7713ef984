//! Mistyped folders, wrong guesses, and an environment that nobody thought of.

use std::fs;

use end_to_end_tests::{Bench, tiny};

use super::{TINY, train};

#[test]
fn a_mistyped_folder_is_not_begun_by_resuming() {
    let bench = Bench::new();
    bench
        .trainer(&["train", "--resume", "--run-dir", "runs/demo-sead-1"])
        .failure(
            2,
            &["nothing to resume", "runs/demo-sead-1", "--resume=or-start"],
        );
    assert!(!bench.path("runs").exists());
    bench
        .trainer(&["train", "--resume"])
        .failure(2, &["nothing to resume"]);
    bench
        .trainer(&train(&["--run-dir", "r", "--resume=or-start"]))
        .success();
    // One that is there is found without its name.
    bench.trainer(&train(&[])).success();
    let resumed = bench.trainer(&train(&["--resume"])).success();
    assert!(
        resumed.stdout.contains("all is trained, after epoch 1"),
        "{}",
        resumed.stdout
    );
}

#[test]
fn wrong_guesses_are_answered() {
    let bench = Bench::new();
    for device in ["cpu", "gpu"] {
        bench
            .trainer(&train(&["--device", device]))
            .failure(2, &["flex (the CPU)", "cuda:N (an NVIDIA GPU"]);
    }
    bench.trainer(&train(&["--run-dir", "r"])).success();
    // The last one wins, as wrapper scripts rely on.
    let repeated = bench.trainer(&[
        "train",
        "--preset",
        "demo",
        "--epochs",
        "5",
        "--epochs",
        "7",
        "--print-config",
        "--json",
        "--json",
    ]);
    assert_eq!(repeated.success().json()["epochs"]["value"], 7);
    bench
        .trainer(&["evaluate", "--run-dir", "x", "--run-dir", "r"])
        .success();
    // A shell leaves this as it is.
    let home = bench.path("home");
    let output = bench
        .trainer_command()
        .args(train(&["--run-dir=~/x"]))
        .env("HOME", &home)
        .output()
        .expect("ended");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(home.join("x/summary.json").is_file() && !bench.path("~").exists());
    let output = bench
        .trainer_command()
        .args(["evaluate", "--run-dir=~/x"])
        .env("HOME", &home)
        .output()
        .expect("ended");
    assert!(output.status.success());

    fs::write(bench.path("bom.json"), "\u{feff}{\"batch_size\": 20}").expect("written");
    let config = [
        "train",
        "--preset",
        "demo",
        "--config",
        "bom.json",
        "--print-config",
        "--json",
    ];
    assert_eq!(
        bench.trainer(&config).success().json()["batch_size"]["value"],
        20
    );
    fs::write(bench.path("quoted.json"), "{\"batch_size\": \"20\"}").expect("written");
    bench
        .trainer(&["train", "--config", "quoted.json"])
        .failure(2, &["batch_size cannot be `\"20\"`"]);
}

#[cfg(unix)]
#[test]
fn the_environment_changes_no_run_without_a_word() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "r"])).success();
    let output = bench
        .trainer_command()
        .args(["train", "--run-dir", "r", "--resume"])
        .env("EPOCHS", "2")
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("EPOCHS in the environment changes epochs of this run: 1 -> 2"),
        "{stderr}"
    );
    let output = bench
        .trainer_command()
        .args(tiny(TINY))
        .env("OUTDIR", std::ffi::OsStr::from_bytes(b"r\xff"))
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("OUTDIR") && stderr.contains("UTF-8"),
        "{stderr}"
    );
    assert!(!bench.path("runs").exists());
}

#[test]
fn a_resumed_run_is_built_for_the_device_it_recorded() {
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "my runs/r"])).success();
    // The trainer without that backend says what would have it, and that it is the same command.
    let config = bench.read_text("my runs/r/config.json");
    let config = config.replace("\"device\": \"flex\"", "\"device\": \"cuda:0\"");
    fs::write(bench.path("my runs/r/config.json"), config).expect("written");
    bench
        .trainer(&["train", "--run-dir", "my runs/r", "--resume"])
        .failure(2, &["feature `cuda`", "same command", "--device cuda:0"]);
}
