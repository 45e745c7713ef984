//! Whole runs of the program on a Vulkan device, as in `vulkan.rs`.

mod divergence;
mod divided;
mod full_disk;
mod large_maps;
mod no_driver;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("kernel-tests-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    // Says what to install where there is none.
    kernel_tests::vulkan();
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command.args(arguments).current_dir(folder);
    for variable in ["EPOCHS", "OUTDIR"] {
        command.env_remove(variable);
    }
    command
}

/// A run of 10 steps in two epochs.
fn train(run_dir: &str, device: &str) -> Vec<String> {
    let text = format!(
        "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 6 --dropout 0.1 --limit-train 33 \
         --limit-test 10 --epochs 2 --seed 3 --data sample --device {device} --checkpoint-every 3 --run-dir {run_dir}"
    );
    text.split_whitespace().map(str::to_owned).collect()
}

fn run_of(folder: &Path, arguments: &[String]) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    program(folder, &arguments).output().expect("started")
}

fn must_run(folder: &Path, arguments: &[String]) {
    let output = run_of(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
}

fn metrics(folder: &Path, run_dir: &str) -> Vec<serde_json::Value> {
    let text =
        std::fs::read_to_string(folder.join(run_dir).join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

/// Holds a run on Vulkan with further flags against the same one on flex.
fn check_parity(name: &str, flags: &[&str]) {
    let folder = Folder::new(name);
    let further = || flags.iter().map(|flag| (*flag).to_owned());
    let run = |run_dir: &str, device: &str| {
        let arguments = train(run_dir, device).into_iter().chain(further());
        must_run(&folder.0, &arguments.collect::<Vec<_>>());
        metrics(&folder.0, run_dir)
    };
    let (found, expected) = (run("vulkan", "vulkan:0"), run("flex", "flex"));
    assert_eq!((found.len(), expected.len()), (2, 2));
    let mut compared = 0;
    for (found, expected) in found.iter().zip(&expected) {
        for (key, expected) in expected.as_object().expect("a row") {
            let Some(expected) = expected.as_f64() else {
                continue;
            };
            // Adam divides gradients by their size, also where both are rounding, and running statistics show it more than batches do.
            let tolerance = if key.starts_with("valid/") { 0.1 } else { 5e-3 };
            let found = found[key].as_f64().unwrap_or_else(|| panic!("{key}"));
            assert!(
                (found - expected).abs() <= tolerance * expected.abs().max(1.0),
                "{key}: {found} and {expected}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 16, "{compared} numbers");

    // The device's validation, of the weights that were exported: the KL divergence does not depend on a draw.
    let evaluate = "evaluate --run-dir vulkan --split valid --device flex --json";
    let arguments: Vec<String> = evaluate.split(' ').map(str::to_owned).collect();
    let output = run_of(&folder.0, &arguments);
    let scored: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let loss = |row: &serde_json::Value| row["valid/loss"].as_f64().expect("a loss");
    let best = found.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    let on_device = best.expect("a row")["valid/kl"].as_f64().expect("a number");
    let by_burn = scored["terms"]["kl"].as_f64().expect("a number");
    assert!(
        (on_device - by_burn).abs() <= 1e-3 * by_burn,
        "{on_device} and {by_burn}"
    );

    // The score of the test images, of the same weights and draws: by the device's own pass in training and in `evaluate`, and on processors.
    let summary = std::fs::read(folder.0.join("vulkan/summary.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_slice(&summary).expect("JSON");
    for (device, tolerance) in [("vulkan:0", 1e-6), ("flex", 1e-5)] {
        let evaluate = format!("evaluate --run-dir vulkan --split test --device {device} --json");
        let arguments: Vec<String> = evaluate.split(' ').map(str::to_owned).collect();
        let output = run_of(&folder.0, &arguments);
        let scored: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for term in ["cross_entropy", "kl", "l2"] {
            let found = scored["terms"][term].as_f64().expect("a number");
            let in_training = summary["test"][term].as_f64().expect("a number");
            println!("test {term}: {in_training} in training, {found} by `evaluate` on {device}");
            let off = (found - in_training).abs();
            assert!(
                off <= tolerance * in_training.abs(),
                "{device}, {term}: {found}, and {in_training} in training"
            );
        }
    }
}

#[test]
fn a_run_is_that_of_flex() {
    check_parity("parity", &[]);
}

#[test]
fn a_run_with_everything_that_changes_a_step_is_that_of_flex() {
    let likelihood = ["--likelihood", "logistic-mixture:2"];
    let objective = ["--free-bits", "0.02", "--kl-warmup", "linear:4"];
    let further = "--ema 0.9 --gradient-checkpointing --augment flip-crop";
    let further: Vec<&str> = further.split(' ').collect();
    check_parity("mixture", &[&likelihood[..], &objective, &further].concat());
}

/// Whether a folder has a checkpoint that is whole.
fn holds_checkpoint(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_none())
}

fn contents(folder: &Path, run_dir: &str) -> Vec<(&'static str, Vec<u8>)> {
    let read = |name: &'static str| {
        let path = folder.join(run_dir).join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, bytes)
    };
    ["metrics.jsonl", "metrics.csv", "model.safetensors"]
        .map(read)
        .into()
}

#[test]
fn a_run_that_was_killed_and_resumed_has_the_bytes_of_one_that_was_not() {
    let folder = Folder::new("kill");
    must_run(&folder.0, &train("whole", "vulkan:0"));
    must_run(&folder.0, &train("again", "vulkan:0"));
    let whole = contents(&folder.0, "whole");
    assert!(whole == contents(&folder.0, "again"), "the same run twice");

    let arguments = train("killed", "vulkan:0");
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = program(&folder.0, &texts).spawn().expect("started");
    let checkpoints = folder.0.join("killed/checkpoints");
    let began = Instant::now();
    // Dead as soon as a checkpoint is there: in the middle of an epoch.
    while !holds_checkpoint(&checkpoints) {
        assert!(began.elapsed() < Duration::from_secs(300), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let mut resumed = arguments.clone();
    resumed.push("--resume".to_owned());
    must_run(&folder.0, &resumed);
    assert!(whole == contents(&folder.0, "killed"), "killed and resumed");
}

/// A GPU trains on while its checkpoint is written; what came of it is told all the same.
#[test]
fn a_save_that_fails_while_training_goes_on_ends_the_run() {
    let folder = Folder::new("lost-save");
    let mut arguments = train("run", "vulkan:0");
    arguments.extend(["--epochs", "50"].map(str::to_owned));
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = program(&folder.0, &texts);
    let log = std::fs::File::create(folder.0.join("log")).expect("a log");
    let mut child = command.stderr(log).spawn().expect("started");
    let checkpoints = folder.0.join("run/checkpoints");
    let began = Instant::now();
    while !holds_checkpoint(&checkpoints) {
        assert!(began.elapsed() < Duration::from_secs(300), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nobody can write a checkpoint below a file.
    std::fs::rename(&checkpoints, folder.0.join("elsewhere")).expect("moved");
    std::fs::write(&checkpoints, "").expect("a file");
    let status = child.wait().expect("ended");
    let text = std::fs::read_to_string(folder.0.join("log")).expect("a log");
    assert_eq!(status.code(), Some(20), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("checkpoints"), "{last}");
}

#[test]
fn a_resumed_run_goes_on_with_its_moments_and_its_average() {
    let folder = Folder::new("resumed");
    // After twenty steps there is a usual norm of the gradient, which a step behind the resumption is held against.
    let flags = "--limit-train 15 --batch-size 3 --ema 0.9 --skip-gradient-norm 1.001 --learning-rate 0.02 --kl-warmup linear:24 --free-bits 0.02";
    let run = |run_dir: &str, further: &[&str]| {
        let mut arguments = train(run_dir, "vulkan:0");
        let flags = flags.split(' ').chain(further.iter().copied());
        arguments.extend(flags.map(str::to_owned));
        must_run(&folder.0, &arguments);
    };
    run("whole", &["--epochs", "6"]);
    run("again", &["--epochs", "5"]);
    run("again", &["--epochs", "6", "--resume"]);
    assert!(contents(&folder.0, "whole") == contents(&folder.0, "again"));
    let rows = metrics(&folder.0, "whole");
    let skipped = |row: &serde_json::Value| row["skipped_steps"].as_u64();
    let of_last = rows.last().and_then(skipped).expect("a number");
    assert!((1..5).contains(&of_last), "{of_last} of five steps skipped");
}

/// To train there, and to use what was trained elsewhere: its kernels would not compile, and leave whatever was in memory.
#[test]
fn bfloat16_is_refused_with_the_reason() {
    let folder = Folder::new("bf16");
    let in_bfloat16 = |device: &str| {
        let mut arguments = train("run", device);
        arguments.extend(["--precision".to_owned(), "bf16".to_owned()]);
        arguments
    };
    let with_run = |command: &str| -> Vec<String> {
        let text = format!("{command} --run-dir run --device vulkan:0");
        text.split(' ').map(str::to_owned).collect()
    };
    let check = |arguments: &[String]| {
        let output = run_of(&folder.0, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains("bfloat16") && text.contains("--precision f32"),
            "{text}"
        );
    };
    check(&in_bfloat16("vulkan:0"));
    must_run(&folder.0, &in_bfloat16("flex"));
    check(&with_run("evaluate"));
    check(&with_run("sample --out samples.png"));
}

/// Steps are read one late, and yet what is shown first of an epoch has numbers.
#[test]
fn every_progress_of_a_step_has_its_numbers() {
    let folder = Folder::new("progress");
    let mut arguments = train("run", "vulkan:0");
    arguments.push("--json".to_owned());
    let output = run_of(&folder.0, &arguments);
    assert!(output.status.success());
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .filter(|event: &serde_json::Value| event["event"] == "step")
        .collect();
    for epoch in [1, 2] {
        let of_epoch = events.iter().filter(|event| event["epoch"] == epoch);
        let first = of_epoch.clone().next().expect("a step");
        assert!(
            first["step"].as_u64().is_some_and(|step| step <= 2),
            "{first}"
        );
        for event in of_epoch {
            let loss = event["loss"].as_f64().expect("a loss");
            assert!((500.0..5000.0).contains(&loss), "{event}");
        }
    }
}

/// Nothing measures a GPU's memory beforehand: what is predicted decides, and it leaves room for the pictures beside the step.
#[test]
fn a_micro_batch_is_chosen_that_leaves_room_for_pictures() {
    let folder = Folder::new("auto-batch");
    let choose = |run_dir: &str, limit: &str| {
        let mut arguments = train(run_dir, "vulkan:0");
        let flags = [
            "--batch-size",
            "30",
            "--auto-batch",
            "--memory-limit",
            limit,
        ];
        arguments.extend(flags.map(str::to_owned));
        arguments
    };
    let chosen = |run_dir: &str| {
        let config = std::fs::read(folder.0.join(run_dir).join("config.json")).expect("settings");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        config["micro_batch_size"].as_u64()
    };
    must_run(&folder.0, &choose("whole", "8GiB"));
    assert_eq!(chosen("whole"), None);

    // A step with two images, without CIFAR-10, which these runs do not use.
    let size = "summary --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --device vulkan:0 --batch-size 30 \
                --micro-batch-size 2 --json";
    let size: Vec<String> = size.split_whitespace().map(str::to_owned).collect();
    let size: serde_json::Value =
        serde_json::from_slice(&run_of(&folder.0, &size).stdout).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("bytes");
    let step = number(&size["step_memory_bytes"]) - number(&size["step_memory"]["images"]);
    let pictures = number(&size["step_memory"]["pictures"]);
    assert!(pictures > 0, "{size}");
    let without = (step - pictures).to_string();
    let refused = run_of(&folder.0, &choose("none", &without));
    assert_eq!(refused.status.code(), Some(31), "{without}");

    // All thirty images take 32 MB more than two.
    let more = (step + (16 << 20)).to_string();
    must_run(&folder.0, &choose("parts", &more));
    let parts = chosen("parts").expect("a micro-batch");
    assert!((2..30).contains(&parts), "{parts} at {more}");
}
