//! What a run tells that ends for want of finite steps.

use std::path::Path;

use serde_json::Value;

use super::{Folder, run_of, train};

/// The report of a run that diverges at its second step, with an objective that is not the loss. Its terms are still finite there, and its gradient is not.
fn diverged(folder: &Path, run_dir: &str, device: &str) -> Value {
    let mut arguments = train(run_dir, device);
    let flags = "--dropout 0 --beta 0.5 --learning-rate 0.5 --epochs 4 --checkpoint-every 1";
    arguments.extend(flags.split(' ').map(str::to_owned));
    let output = run_of(folder, &arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(30), "{device}: {text}");
    let report = folder.join(run_dir).join("divergence.json");
    let report = std::fs::read(report).expect("a report");
    serde_json::from_slice(&report).expect("JSON")
}

/// The largest magnitude in the newest checkpoint of a run, and the name of its tensor.
fn largest_weight(run_dir: &Path) -> (String, f32) {
    let checkpoints = std::fs::read_dir(run_dir.join("checkpoints")).expect("listed");
    let newest = checkpoints
        .map(|entry| entry.expect("an entry").path())
        .max()
        .expect("a checkpoint");
    let weights = std::fs::read(newest.join("model.safetensors")).expect("weights");
    let weights = safetensors::SafeTensors::deserialize(&weights).expect("safetensors");
    let magnitudes = weights.iter().map(|(name, view)| {
        let values = view.data().chunks_exact(4);
        let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")));
        let most = values.fold(0.0, |most: f32, value| most.max(value.abs()));
        (name.to_owned(), most)
    });
    magnitudes
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("a tensor")
}

/// Where, when and what, as processors say it of the same run; and the largest of the device's weights, which are read then.
#[test]
fn a_divergence_is_reported_as_on_processors() {
    let folder = Folder::new("diverged");
    let found = diverged(&folder.0, "vulkan", "vulkan:0");
    let expected = diverged(&folder.0, "flex", "flex");
    println!("{found}\n{expected}");
    assert_eq!(found["skipped_in_a_row"], 10);
    // Not how many parameters: the device leaves at zero what has no influence, and processors do not where nothing is finite.
    for key in [
        "epoch",
        "step",
        "learning_rate",
        "term",
        "value",
        "parameter",
        "skipped",
        "skipped_in_a_row",
    ] {
        assert!(!expected[key].is_null(), "{key}: {expected}");
        assert_eq!(found[key], expected[key], "{key}: {found} and {expected}");
    }

    // No step after the last finite one changed a weight, so the newest checkpoint has them.
    let (name, magnitude) = largest_weight(&folder.0.join("vulkan"));
    let largest = &found["largest_weight"];
    assert_eq!(largest["name"], name.as_str());
    assert_eq!(largest["magnitude"].as_f64(), Some(f64::from(magnitude)));
    // Those that the run began with are smaller.
    assert!(magnitude > 2.05, "{magnitude}");
}
