//! Predicted memory against measured memory, and the micro-batch that is chosen by it.

use std::process::Command;

use end_to_end_tests::{Bench, ended, tiny};
use serde_json::Value;

/// The JSON that a command of the trainer prints. Freed memory is given back at once, so that a peak is what the tensors
/// need and not what the allocator happened to keep.
fn trainer_of_two_threads(bench: &Bench) -> Command {
    let mut command = bench.trainer_command();
    command
        .env("MIMALLOC_PURGE_DELAY", "0")
        // Each thread has pages of its own.
        .env("RAYON_NUM_THREADS", "2");
    command
}

fn json(bench: &Bench, arguments: &[&str]) -> Value {
    let output = trainer_of_two_threads(bench)
        .args(arguments)
        .output()
        .expect("the trainer runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let messages = String::from_utf8_lossy(&output.stderr);
        panic!("{arguments:?}: {error}; {messages}")
    })
}

#[test]
fn the_memory_of_a_step_is_predicted_within_15_percent() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let bench = Bench::new();
    for (depth, width, batch, precision, likelihood) in [
        ("28", "0.0625", "25", "f32", "bernoulli"),
        ("40", "0.125", "8", "f32", "bernoulli"),
        // By Burn's own operations, as on a GPU.
        ("28", "0.0625", "25", "bf16", "bernoulli"),
        // A map of 400 channels, and one of its gradient.
        ("28", "0.0625", "25", "f32", "logistic-mixture:40"),
    ] {
        let bytes = |command: &str, more: &[&str], key: &str| {
            let mut arguments = vec![command, "--json", "--depth", depth, "--width", width];
            arguments.extend(["--latent-dim", "64", "--batch-size", batch]);
            arguments.extend(["--precision", precision, "--likelihood", likelihood]);
            arguments.extend(more);
            json(&bench, &arguments)[key].as_f64().expect("bytes")
        };
        let predicted = bytes("summary", &[], "step_memory_bytes");
        // The peaks of equal processes differ by some megabytes, on a busy machine most.
        let measured = || {
            bytes(
                "bench-step",
                &["--steps", "2", "--warmup", "1"],
                "peak_bytes",
            )
        };
        let measured = measured().min(measured());
        let ratio = predicted / measured;
        assert!(
            (0.85..=1.15).contains(&ratio),
            "depth {depth}, width {width}, batch {batch}, {precision}, {likelihood}: {predicted} predicted, {measured} measured"
        );
    }
}

/// Steps of a half and of a quarter of what is predicted to fit are measured, and what they say is kept to.
#[test]
fn the_chosen_micro_batch_fits_is_recorded_and_kept() {
    let bench = Bench::new();
    let recorded = || {
        let config = bench.read_json("r/config.json");
        config["micro_batch_size"].clone()
    };
    let train = |more: &[&str]| {
        let mut arguments = vec!["train", "--run-dir", "r"];
        arguments.extend(more);
        ended(trainer_of_two_threads(&bench).args(arguments))
    };
    // As wide as that the images' share is far larger than what the peaks of equal processes differ by.
    let size = "--preset demo --width 0.1 --latent-dim 4 --limit-train 200 --limit-test 10 --batch-size 200 --epochs 1 --auto-batch";
    let size = &size.split(' ').collect::<Vec<_>>()[..];
    train(&[size, &["--memory-limit", "1MiB"]].concat()).failure(31, &["--gradient-checkpointing"]);
    train(&[size, &["--memory-limit", "320MB"]].concat()).success();
    let chosen = recorded();
    assert!(chosen.as_u64().is_some_and(|most| most < 200), "{chosen}");
    if cfg!(target_os = "linux") {
        let timing = bench.read_text("r/timing.jsonl");
        let timing: Value = serde_json::from_str(timing.trim()).expect("one epoch");
        let peak = timing["peak_memory_bytes"].as_f64().expect("bytes");
        println!("{chosen} images at a time, {peak} bytes at most");
        assert!((0.6..=1.0).contains(&(peak / 320e6)), "{peak} bytes");
    }
    train(&[
        "--resume",
        "--epochs",
        "2",
        "--auto-batch",
        "--memory-limit",
        "8GiB",
    ])
    .success();
    assert_eq!(recorded(), chosen);
    train(&["--resume", "--micro-batch-size", "200"]).failure(2, &["micro_batch_size"]);
}

/// What `--auto-batch` starts: a step of a run, by the settings that its folder would record.
#[test]
fn a_step_of_a_run_can_be_measured() {
    let bench = Bench::new();
    let settings = bench
        .trainer(&tiny("--batch-size 12 --ema 0.9 --print-config --json"))
        .success()
        .json();
    let settings = settings.as_object().expect("an object");
    let settings: Value = settings
        .iter()
        .map(|(key, entry)| (key.clone(), entry["value"].clone()))
        .collect();
    let measure = |settings: &Value| {
        let once = ["bench-step", "--json", "--steps", "1", "--settings"];
        bench.trainer(&[&once[..], &[&settings.to_string()]].concat())
    };
    let step = measure(&settings).success().json();
    assert_eq!(
        (&step["width"], &step["batch_size"]),
        (&settings["width"], &settings["batch_size"])
    );
    let mut wrong = settings.clone();
    wrong["batch_size"] = 0.into();
    measure(&wrong).failure(2, &["batch_size"]);
}

/// The peak of a process's memory, in bytes, and its exit code.
#[cfg(target_os = "linux")]
fn peak(bench: &Bench, arguments: &[&str]) -> (u64, Option<i32>) {
    let mut child = bench
        .trainer_command()
        .args(arguments)
        .env("MIMALLOC_PURGE_DELAY", "0")
        .env("RAYON_NUM_THREADS", "2")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("asked").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        peak = number.unwrap_or(0u64).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    (1024 * peak, child.wait().expect("ended").code())
}

/// Ten steps that are skipped, one after another, need no more memory than as many that are taken.
#[cfg(target_os = "linux")]
#[test]
fn a_skipped_step_leaves_nothing_behind() {
    let bench = Bench::new();
    let run = |run_dir: &str, rate: &str| {
        let run = "--depth 100 --batch-size 25 --limit-train 400 --limit-test 10 --epochs 1";
        let flags = [
            &tiny(run)[..],
            &["--learning-rate", rate, "--run-dir", run_dir],
        ]
        .concat();
        peak(&bench, &flags)
    };
    let (taken, code) = run("taken", "0.0001");
    assert_eq!(code, Some(0));
    let (skipped, code) = run("skipped", "1");
    // Ten in a row end the run.
    assert_eq!(code, Some(30));
    let report = bench.read_json("skipped/divergence.json");
    assert_eq!(report["skipped_in_a_row"], 10);
    let ratio = skipped as f64 / taken as f64;
    println!("{taken} bytes at most with steps taken, {skipped} with ten skipped: {ratio:.2}");
    assert!(
        ratio < 1.3,
        "{ratio}: {skipped} bytes, where {taken} are enough"
    );
}

/// A picture that each draw left behind would be 990 times 20 pictures of 12,288 bytes: 243 MB.
#[cfg(target_os = "linux")]
#[test]
fn a_bound_of_a_thousand_draws_needs_no_more_memory_than_one_of_ten() {
    let bench = Bench::new();
    let run = "--likelihood logistic --limit-train 60 --limit-test 20 --epochs 1 --run-dir r";
    bench.trainer(&tiny(run)).success();
    let bound = |samples: &str| {
        let flags = ["--importance-samples", samples, "--batch-size", "20"];
        let (peak, code) = peak(
            &bench,
            &[&["evaluate", "--run-dir", "r"], &flags[..]].concat(),
        );
        assert_eq!(code, Some(0));
        peak
    };
    let [few, many] = ["10", "1000"].map(bound);
    println!("{few} bytes at most with 10 draws an image, {many} with 1000");
    // The peaks of equal processes differ by some megabytes.
    assert!(
        many < few + (24 << 20),
        "{many} bytes, where {few} are enough for 10 draws"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_micro_batch_is_chosen_by_what_the_process_may_have() {
    let bench = Bench::new();
    let program = bench.trainer_command().get_program().to_owned();
    // The address space, in kilobytes.
    let limited = |limit: &str, more: &[&str]| {
        let output = bench
            .command("sh")
            .args(["-c", &format!("ulimit -v {limit}; exec \"$@\""), "sh"])
            .arg(&program)
            .args([
                "train",
                "--preset",
                "demo",
                "--width",
                "0.25",
                "--batch-size",
                "500",
                "--auto-batch",
            ])
            .args([
                "--limit-train",
                "500",
                "--limit-test",
                "10",
                "--epochs",
                "1",
                "--json",
            ])
            .args(more)
            .output()
            .expect("ended");
        let texts =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), texts)
    };
    let (code, [_, stderr]) = limited("300000", &["--run-dir", "none"]);
    assert_eq!(code, Some(31), "{stderr}");
    assert!(
        !stderr.contains("--auto-batch") && stderr.contains("--width"),
        "{stderr}"
    );
    let (code, [stdout, stderr]) = limited("2500000", &["--run-dir", "some"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("micro-batches of at most"), "{stdout}");
    // A resumed run keeps what was chosen, also where its folder is not named.
    let (code, [_, stderr]) = limited("2500000", &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let (code, [_, stderr]) = limited("2500000", &["--resume"]);
    assert_eq!(code, Some(0), "{stderr}");
}
