//! Predicted memory against measured memory, and the micro-batch that is chosen by it.

use end_to_end_tests::Bench;
use serde_json::Value;

/// The JSON that a command of the trainer prints. Freed memory is given back at once, so that a peak is what the tensors
/// need and not what the allocator happened to keep.
fn json(bench: &Bench, arguments: &[&str]) -> Value {
    let output = bench
        .trainer_command()
        .args(arguments)
        .env("MIMALLOC_PURGE_DELAY", "0")
        // Each thread has pages of its own.
        .env("RAYON_NUM_THREADS", "2")
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
        let measured = bytes(
            "bench-step",
            &["--steps", "2", "--warmup", "1"],
            "peak_bytes",
        );
        let ratio = predicted / measured;
        assert!(
            (0.85..=1.15).contains(&ratio),
            "depth {depth}, width {width}, batch {batch}, {precision}, {likelihood}: {predicted} predicted, {measured} measured"
        );
    }
}

#[test]
fn the_chosen_micro_batch_is_recorded_and_kept() {
    let bench = Bench::new();
    let recorded = || {
        let config: Value = serde_json::from_slice(&bench.read("r/config.json")).expect("JSON");
        config["micro_batch_size"].clone()
    };
    let train = |more: &[&str]| {
        let mut arguments = vec!["train", "--run-dir", "r"];
        arguments.extend(more);
        bench.trainer(&arguments)
    };
    let size = [
        "--preset",
        "demo",
        "--width",
        "0.02",
        "--latent-dim",
        "4",
        "--limit-train",
        "200",
        "--limit-test",
        "10",
        "--batch-size",
        "200",
        "--epochs",
        "1",
        "--auto-batch",
    ];
    train(&[&size[..], &["--memory-limit", "1MiB"]].concat())
        .failure(31, &["--gradient-checkpointing"]);
    // By prediction 280 MB are needed whatever the batch, and 130 MB more for 200 images at once.
    train(&[&size[..], &["--memory-limit", "370MB"]].concat()).success();
    let chosen = recorded();
    assert!(chosen.as_u64().is_some_and(|most| most < 200), "{chosen}");
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
        let flags = [
            "train",
            "--preset",
            "demo",
            "--depth",
            "100",
            "--width",
            "0.02",
            "--latent-dim",
            "4",
            "--batch-size",
            "25",
            "--limit-train",
            "400",
            "--limit-test",
            "10",
            "--epochs",
            "1",
            "--learning-rate",
            rate,
            "--run-dir",
            run_dir,
        ];
        peak(&bench, &flags)
    };
    let (taken, code) = run("taken", "0.0001");
    assert_eq!(code, Some(0));
    let (skipped, code) = run("skipped", "1");
    // Ten in a row end the run.
    assert_eq!(code, Some(30));
    let report: Value =
        serde_json::from_slice(&bench.read("skipped/divergence.json")).expect("JSON");
    assert_eq!(report["skipped_in_a_row"], 10);
    let ratio = skipped as f64 / taken as f64;
    println!("{taken} bytes at most with steps taken, {skipped} with ten skipped: {ratio:.2}");
    assert!(
        ratio < 1.3,
        "{ratio}: {skipped} bytes, where {taken} are enough"
    );
}
