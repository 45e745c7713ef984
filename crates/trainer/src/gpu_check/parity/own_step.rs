//! The step that training takes on a GPU against the golden files: loss terms, gradients and running statistics, launched and replayed, and twenty steps of Adam.

use burn::prelude::*;
use resnet_blocks::named_parameters;
use vae_core::{Sampler, Vae};
use vae_device_step::{AdamOptions, DeviceStep, Outcome, StepInputs, StepOptions, StepRates};

use super::golden::{Comparisons, Golden, float64, relative_distance};
use super::positions::positions;
use super::tolerances::Tolerances;
use crate::gpu_check::row::Comparison;
use crate::step::adam::{BETA_1, BETA_2, EPSILON};

/// Whether a device has such a step: whether CubeCL serves it.
pub(super) fn is_known(device: &Device) -> bool {
    crate::device::matrix_products(device).is_some()
}

/// Compares three steps of the same batch, each of which skips its update, so that all see the weights of the file: the first is launched, the third
/// replayed where the device can. Then one that is taken, for the running statistics, and from the weights of the file again as many as its curve of losses has.
///
/// # Panics
/// If the device fails.
pub(super) fn compare(
    vae: Vae,
    golden: &Golden,
    device: &Device,
    tolerances: Tolerances,
) -> Vec<Comparison> {
    let options = StepOptions {
        adam: AdamOptions {
            beta_1: BETA_1,
            beta_2: BETA_2,
            epsilon: EPSILON,
        },
        sampler: Sampler::Correct,
        average_decay: None,
        free_bits: None,
        is_recomputed: false,
        is_captured: true,
    };
    let mut step = DeviceStep::new(&vae, options).expect("bottlenecks with ReLU");
    let mut comparisons = Comparisons::new(golden);
    for _ in 0..3 {
        let outcome = taken(&mut step, golden, device, Some(0.0));
        compare_terms(&mut comparisons, golden, &outcome, tolerances);
        comparisons.gradients(gradients(golden, &step), tolerances);
    }
    taken(&mut step, golden, device, None);
    let mut trained = DeviceStep::new(&vae, options).expect("bottlenecks with ReLU");
    compare_curve(&mut comparisons, &mut trained, golden, device, tolerances);
    let images: Tensor<4> = golden.tensor("images", device);
    let [batch, ..] = images.dims();
    let after = step.model(vae).unwrap_or_else(|error| panic!("{error}"));
    for parameter in named_parameters(&after) {
        let name = format!("after.{}", parameter.name);
        if golden.values(&name).is_some() {
            let count = batch * positions(&parameter.name);
            let found = golden.with_biased_variance(&parameter.name, parameter.data, count);
            comparisons.relative(&name, found, tolerances.forward);
        }
    }
    comparisons.all
}

/// Steps of Adam at the file's rate: their losses, and where products are rounded how far they have fallen, which the first loss's own error leaves alone.
fn compare_curve(
    comparisons: &mut Comparisons,
    step: &mut DeviceStep,
    golden: &Golden,
    device: &Device,
    tolerances: Tolerances,
) {
    let Some(allowed) = tolerances.curve else {
        return;
    };
    let expected = float64(golden.data("adam_loss_curve"));
    let images = golden.shape("images")[0] as f64;
    let found: Vec<f64> = expected
        .iter()
        .map(|_| {
            let outcome = taken(step, golden, device, None);
            (outcome.cross_entropy + outcome.kl) / images + outcome.l2
        })
        .collect();
    for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = relative_distance(&[*expected], &[*found]);
        let name = format!("adam_loss_curve, step {number}");
        comparisons.add(&name, error, allowed.losses);
    }
    if let Some(allowed) = allowed.fall {
        let [found, expected] = [&found, &expected].map(|losses| fall(losses));
        let error = relative_distance(&expected, &found);
        comparisons.add("the fall of adam_loss_curve", error, allowed);
    }
}

/// By how much each loss lies below the first.
fn fall(losses: &[f64]) -> Vec<f64> {
    losses.iter().map(|loss| losses[0] - loss).collect()
}

/// A step over the images of the file; skipped where its gradient's norm is larger than `largest_norm`.
fn taken(
    step: &mut DeviceStep,
    golden: &Golden,
    device: &Device,
    largest_norm: Option<f64>,
) -> Outcome {
    let inputs = StepInputs {
        images: golden.tensor("images", device).into(),
        noise: golden.tensor("noise", device),
        dropout: None,
    };
    let rates = StepRates {
        // That of the files.
        learning_rate: 1e-3,
        kl_weights: [1.0; 4],
        largest_norm,
    };
    let outcome = step.step(inputs, rates).and_then(|pending| pending.wait());
    let observed = outcome.and_then(|outcome| step.observe(&outcome).map(|()| outcome));
    let outcome = observed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        outcome.is_taken,
        largest_norm.is_none(),
        "whether a step with a gradient of norm {} is taken where {largest_norm:?} is the largest",
        outcome.gradient_norm
    );
    outcome
}

fn compare_terms(
    comparisons: &mut Comparisons,
    golden: &Golden,
    outcome: &Outcome,
    tolerances: Tolerances,
) {
    let sum = |name: &str| golden.values(name).map(|values| values.iter().sum::<f64>());
    for (name, found, expected) in [
        ("train.nll", outcome.cross_entropy, sum("train.nll")),
        ("train.kl", outcome.kl, sum("train.kl")),
        ("train.l2", outcome.l2, sum("train.l2")),
    ] {
        let error = expected.and_then(|expected| relative_distance(&[expected], &[found]));
        comparisons.add(name, error, tolerances.forward);
    }
}

/// The gradients of the last step in the files' layout.
fn gradients(golden: &Golden, step: &DeviceStep) -> Vec<(String, Option<TensorData>)> {
    let gradients = step.gradients().unwrap_or_else(|error| panic!("{error}"));
    let named = gradients.into_iter().map(|(parameter, mut found)| {
        let name = format!("grad.{parameter}");
        if golden.values(&name).is_some()
            && let [rows, columns] = golden.data(&name).shape()[..]
        {
            // Burn keeps a dense layer's weight as `[in, out]`, the files as PyTorch does.
            let all = (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row));
            found = all.map(|position| found[position]).collect();
        }
        let shape = [found.len()];
        (parameter, Some(TensorData::new(found, shape)))
    });
    named.collect()
}
