//! Whole autoencoders and losses against values computed independently in float64 (`golden/`).
//!
//! Tolerances. Float64: relative L2 1e-5 for everything. Float32: forward values and running statistics 1e-4, the
//! gradient as one vector 5e-3, single tensors 5e-2. Biases that a norm follows have a true gradient
//! of zero (norm below 1e-6 in the files): compared absolutely, 1e-8 in float64 and 2e-3 in float32.
//!
//! With products in bfloat16 a value has been rounded three times a layer (both operands and the result), each time by up to
//! u = 2^-8 of itself and by about u/2 in the root mean square. `n` such errors that know nothing of each other add up to
//! sqrt(n) u/2; with n = 3 * 28 and a factor of 2 for norms over few values, forward values may be off by 3.6e-2.
//! Gradients are off by more, because a ReLU whose input changes its sign passes a gradient that is wholly wrong: of inputs
//! that are normal and off by a share d, a share d/pi does. The 26 ReLUs of the longest path, with d = sqrt(3 l) u/2 at the
//! l-th, give a relative error of sqrt(sum d / pi) = 0.31. That is allowed for the gradient as one vector; single tensors at
//! the far end of the path have a few numbers at these widths, and are not compared.

#[path = "checks/golden.rs"]
mod checks;

use burn::prelude::*;
use burn::tensor::DType;
use vae_core::{Depth, DiagonalGaussian, Precision, bernoulli_cross_entropy};

use checks::{
    BFLOAT16, FLOAT32, FLOAT64, Golden, check_values_and_gradients, check_with_precision, values,
};

fn golden_path(file: &str) -> String {
    format!(
        "{}/tests/golden/{file}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn depth_28_matches_in_float64_on_flex() {
    check_values_and_gradients(
        Depth::Depth28,
        "vae_depth28",
        Device::flex(),
        DType::F64,
        &FLOAT64,
    );
}

#[test]
fn depth_40_matches_in_float64_on_flex() {
    check_values_and_gradients(
        Depth::Depth40,
        "vae_depth40",
        Device::flex(),
        DType::F64,
        &FLOAT64,
    );
}

#[test]
fn depth_28_matches_in_float32_on_flex() {
    check_values_and_gradients(
        Depth::Depth28,
        "vae_depth28",
        Device::flex(),
        DType::F32,
        &FLOAT32,
    );
}

#[test]
fn depth_28_matches_with_products_in_bfloat16() {
    check_with_precision(
        Depth::Depth28,
        "vae_depth28",
        Device::flex(),
        DType::F32,
        Precision::Bf16,
        &BFLOAT16,
    );
}

#[test]
fn depth_40_matches_in_float32_on_flex() {
    check_values_and_gradients(
        Depth::Depth40,
        "vae_depth40",
        Device::flex(),
        DType::F32,
        &FLOAT32,
    );
}

#[test]
#[allow(deprecated)] // ndarray is the reference backend until Burn removes it.
fn depth_28_matches_in_float32_on_ndarray() {
    check_values_and_gradients(
        Depth::Depth28,
        "vae_depth28",
        Device::ndarray(),
        DType::F32,
        &FLOAT32,
    );
}

/// Absolute 1e-5 or relative 5e-5, whichever is larger.
fn assert_close(name: &str, found: Tensor<1>, expected: &[f64]) {
    let found = values(found.into_data());
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = 1e-5f64.max(5e-5 * expected.abs());
        assert!(
            (found - expected).abs() <= allowed,
            "{name} {index}: {found} against {expected}"
        );
    }
}

#[test]
fn losses_match_at_extreme_inputs() {
    let golden = Golden::read("losses");
    let device = Device::flex();
    let count = golden.0["bernoulli.nll"].1.len();
    let elementwise = |name: &str| {
        golden
            .tensor::<1>(name, &device, DType::F32)
            .reshape([count, 1, 1, 1])
    };
    let found = bernoulli_cross_entropy(
        elementwise("bernoulli.logits"),
        elementwise("bernoulli.pixels"),
    );
    assert_close("cross-entropy", found, &golden.0["bernoulli.nll"].1);

    let posterior = DiagonalGaussian {
        mean: golden.tensor("gauss.mean", &device, DType::F32),
        log_variance: golden.tensor("gauss.log_variance", &device, DType::F32),
    };
    assert_close(
        "KL",
        posterior.kl_to_standard_normal(),
        &golden.0["gauss.kl"].1,
    );
}
