//! Batches whose maps are larger than a device's buffers, of which lavapipe has none above 128 MiB.

use super::{Folder, must_run, run_of};

/// A run whose pixels have distributions of 1000 parameters: 4 MiB an image, beside which the blocks' maps are small.
const TRAIN: &str = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --likelihood logistic-mixture:100 --batch-size 5 \
                     --limit-train 40 --limit-test 5 --epochs 1 --seed 3 --data sample --device flex --run-dir run";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Pictures and scores are computed in parts there, and are those of processors.
#[test]
fn a_batch_is_divided_where_its_maps_are_larger_than_any_buffer() {
    let folder = Folder::new("large-maps");
    must_run(&folder.0, &words(TRAIN));

    let sample = |device: &str| {
        let file = format!("{}.npy", device.replace(':', "-"));
        must_run(
            &folder.0,
            &words(&format!(
                "sample --run-dir run --count 40 --out {file} --device {device}"
            )),
        );
        std::fs::read(folder.0.join(file)).expect("an array")
    };
    let (found, expected) = (sample("vulkan:0"), sample("flex"));
    assert_eq!(found.len(), expected.len());
    let most = found
        .iter()
        .zip(&expected)
        .map(|(found, expected)| found.abs_diff(*expected))
        .max();
    // Levels of grey that lie between two.
    assert!(most <= Some(1), "{most:?}");

    let evaluate = |device: &str| -> serde_json::Value {
        let text = format!(
            "evaluate --run-dir run --split train --images 40 --batch-size 40 --importance-samples 3 --device {device} --json"
        );
        let output = run_of(&folder.0, &words(&text));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let (found, expected) = (evaluate("vulkan:0"), evaluate("flex"));
    for pointer in [
        "/terms/cross_entropy",
        "/terms/kl",
        "/importance/bound/nats",
    ] {
        let number = |of: &serde_json::Value| {
            of.pointer(pointer)
                .and_then(serde_json::Value::as_f64)
                .expect("a number")
        };
        let (found, expected) = (number(&found), number(&expected));
        assert!(
            (found - expected).abs() <= 1e-4 * expected.abs(),
            "{pointer}: {found} and {expected}"
        );
    }
}

/// A step is not divided by itself, since norms take the statistics of what is computed at a time.
#[test]
fn a_step_that_needs_a_larger_buffer_ends_before_anything_changes() {
    let folder = Folder::new("large-step");
    let train = words(
        &TRAIN
            .replace("-size 5", "-size 40")
            .replace("flex", "vulkan:0"),
    );
    let output = run_of(&folder.0, &train);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(31), "{text}");
    let last = text.lines().last().expect("a line");
    println!("{last}");
    assert!(
        last.contains("no buffer of") && last.contains("--micro-batch-size"),
        "{last}"
    );
    for file in ["model.safetensors", "metrics.jsonl"] {
        let written = std::fs::metadata(folder.0.join("run").join(file));
        assert!(!written.is_ok_and(|file| file.len() > 0), "{file}");
    }
    let checkpoints = std::fs::read_dir(folder.0.join("run/checkpoints"));
    assert!(!checkpoints.is_ok_and(|mut files| files.next().is_some()));
}

/// Where it may choose how many images are computed at a time, it chooses as many as have maps that fit.
#[test]
fn a_micro_batch_is_chosen_whose_maps_fit_a_buffer() {
    let folder = Folder::new("chosen-step");
    let train = TRAIN
        .replace("-size 5", "-size 40")
        .replace("flex", "vulkan:0");
    let train = format!("{train} --auto-batch --memory-limit 8GiB");
    must_run(&folder.0, &words(&train));
    let config = std::fs::read(folder.0.join("run/config.json")).expect("the settings");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    println!("{}", config["micro_batch_size"]);
    // 32 images have maps of 128 MiB, and halves are equal.
    assert_eq!(config["micro_batch_size"], 20);
}
