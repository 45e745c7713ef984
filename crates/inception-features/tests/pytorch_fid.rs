//! Features beside those of pytorch-fid's own network, for weights that both sides compute by formula (`golden/make.py`).

mod formula;

use std::path::{Path, PathBuf};

use burn::prelude::*;
use formula::{image, tensor, write_weights};
use inception_features::{FEATURES, Inception, Weights, WeightsError};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn expected() -> Vec<f32> {
    let bytes = std::fs::read(golden("features.f32")).expect("the golden features");
    let (fours, _) = bytes.as_chunks::<4>();
    fours.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

/// Root of the mean square of the differences, over that of the expected values; and the largest difference over the latter.
fn differences(found: &[f32], expected: &[f32]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    let pairs = || {
        found
            .iter()
            .zip(expected)
            .map(|(f, e)| (f64::from(*f), f64::from(*e)))
    };
    let size = (pairs().map(|(_, e)| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    let square = pairs().map(|(f, e)| (f - e).powi(2)).sum::<f64>() / expected.len() as f64;
    let largest = pairs().map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
    (square.sqrt() / size, largest / size)
}

#[test]
fn features_are_those_of_pytorch_fid() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    write_weights(&path);
    let weights = Weights::read(&path).expect("the weights just written");
    assert!(!weights.are_published() && weights.sha256().len() == 64);
    let device = Device::flex();
    let inception = Inception::new(&weights, &device).expect("all tensors");
    let expected = expected();
    #[expect(clippy::disallowed_methods, reason = "on a processor")]
    let pair = Tensor::cat(
        vec![image(0, 32, 32, &device), image(1, 32, 32, &device)],
        0,
    );
    let mut found = values(inception.features(pair));
    // Another size, with other steps down and across.
    found.extend(values(inception.features(image(2, 75, 41, &device))));
    for (index, (found, expected)) in found
        .chunks(FEATURES)
        .zip(expected.chunks(FEATURES))
        .enumerate()
    {
        let (mean, largest) = differences(found, expected);
        println!("image {index}: {mean:.1e} of their size, at most {largest:.1e}");
        // Float32 sums of up to 3,456 products, 48 of them after each other, in another order.
        assert!(
            mean < 2e-6 && largest < 1e-5,
            "image {index}: {mean} {largest}"
        );
    }
    // Images differ by far more than that.
    let (between, _) = differences(&expected[..FEATURES], &expected[FEATURES..2 * FEATURES]);
    assert!(between > 1e-2, "{between}");
}

#[test]
fn files_of_torch_save_are_read_in_both_of_its_formats() {
    for name in ["legacy.pth", "zip.pth"] {
        let weights =
            Weights::read(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let kernel = tensor("a.conv.weight", &[2, 3, 1, 1]);
        assert_eq!(
            weights.get("a.conv.weight", &[2, 3, 1, 1]).expect("there"),
            kernel,
            "{name}"
        );
        let bias = tensor("a.bn.bias", &[8]);
        let every_other: Vec<f32> = bias.into_iter().step_by(2).collect();
        assert_eq!(
            weights.get("a.bn.bias", &[4]).expect("there"),
            every_other,
            "{name}"
        );
        // Not the network's.
        let error = Inception::new(&weights, &Device::flex()).expect_err("no network");
        assert!(matches!(error, WeightsError::Unfitting { .. }));
        assert!(
            error.to_string().contains("pytorch-fid/releases"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_file_of_weights_is_refused_with_the_place_to_get_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Weights::read(&folder.path().join("none.pth")).expect_err("no file");
    assert!(matches!(missing, WeightsError::Unreadable { .. }));
    let whole = std::fs::read(golden("legacy.pth")).expect("the golden file");
    let path = folder.path().join("x.pth");
    for bytes in [
        &b""[..],
        b"not weights",
        b"\x08\0\0\0\0\0\0\0{\"a\": 1}",
        &whole[..whole.len() / 2],
    ] {
        std::fs::write(&path, bytes).expect("written");
        let error = Weights::read(&path).expect_err("no weights");
        assert!(matches!(error, WeightsError::Malformed { .. }), "{error}");
        assert!(
            error.to_string().contains("pytorch-fid/releases"),
            "{error}"
        );
    }
}
