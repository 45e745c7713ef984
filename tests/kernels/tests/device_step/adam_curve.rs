//! Twenty steps of the golden files' Adam, whose losses were computed in float64 by a program that knows nothing of this one.

use burn::tensor::{DType, Tensor};
use vae_core::{Depth, Precision, Sampler};
use vae_device_step::{DeviceStep, Outcome, StepInputs, StepRates};

use crate::{autoencoder, options, rates, step, vulkan};

/// The files' rate.
const RATE: f64 = 1e-3;
/// What the files allow a float32 computation.
const TOLERANCE: f64 = 1e-3;

/// The mean loss of a batch.
fn loss(outcome: &Outcome, images: usize) -> f64 {
    (outcome.cross_entropy + outcome.kl) / images as f64 + outcome.l2
}

/// Steps that are launched too: the first is launched in any case, and the second captured.
const LAUNCHED: usize = 8;

/// The losses of so many steps, all of the file's one batch.
fn losses(golden: &autoencoder::Golden, depth: Depth, count: usize, is_captured: bool) -> Vec<f64> {
    let (device, dtype) = (vulkan(), DType::F32);
    let vae = autoencoder::load(golden, depth, &device, dtype, Precision::F32);
    let options = options(Sampler::Correct, is_captured);
    let mut engine = DeviceStep::new(&vae, options).expect("known kernels");
    let losses = (0..count).map(|number| {
        let images: Tensor<4> = golden.tensor("images", &device, dtype);
        let [batch, ..] = images.dims();
        let inputs = StepInputs {
            images: images.into(),
            noise: golden.tensor("noise", &device, dtype),
            dropout: None,
        };
        let rates = StepRates {
            learning_rate: RATE,
            ..rates(1.0)
        };
        let outcome = step(&mut engine, inputs, rates);
        assert!(
            outcome.is_taken && outcome.updates == number as u64 + 1,
            "{outcome:?}"
        );
        loss(&outcome, batch)
    });
    let losses = losses.collect();
    let failure = engine.capture_failure();
    assert_eq!(engine.is_captured(), is_captured, "{failure:?}");
    losses
}

fn check(depth: Depth, file: &str) {
    let golden = autoencoder::Golden::read(file);
    let expected = &golden.0["adam_loss_curve"].1;
    assert_eq!(expected.len(), 20);
    let replayed = losses(&golden, depth, expected.len(), true);
    let mut worst = 0.0f64;
    for (number, (found, expected)) in replayed.iter().zip(expected).enumerate() {
        let error = (found / expected - 1.0).abs();
        assert!(
            error <= TOLERANCE,
            "{file}, step {number}: {found} and {expected}, off by {error:e}"
        );
        worst = worst.max(error);
    }
    println!("{file}: off by {worst:e} at most");
    let launched = losses(&golden, depth, LAUNCHED, false);
    assert_eq!(launched, replayed[..LAUNCHED], "{file}, launched");
}

#[test]
fn twenty_steps_follow_the_loss_curve_of_the_golden_file_at_depth_28() {
    check(Depth::Depth28, "vae_depth28");
}

#[test]
fn twenty_steps_follow_the_loss_curve_of_the_golden_file_at_depth_40() {
    check(Depth::Depth40, "vae_depth40");
}
