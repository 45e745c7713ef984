//! Two hundred steps with the fast blocks end where runs of the plain layers end.
//!
//! Rounding alone makes any two runs part after some dozen steps, so single losses cannot be compared. Plain runs whose
//! initial weights differ by about 1e-7 of themselves show how far chaos carries; the fast run is to lie among them.

#![cfg(feature = "flex")]

use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{Augment, BatchPlan, Cifar10};
use resnet_blocks::{map_named_parameters, with_plain_blocks};
use trainer::adam::Adam;
use trainer::evaluate::read_terms;
use trainer::model::{Model, initial_model};
use trainer::random::{Purpose, Stream};
use trainer::weights::named_values;
use vae_core::{Depth, Sampler, VaeConfig};

const BATCH: usize = 8;
const STEPS: usize = 200;
const LEARNING_RATE: f64 = 1e-3;
/// Steps whose losses are averaged.
const LAST: usize = 50;
const PLAIN_RUNS: usize = 8;
/// Student's t for 7 degrees of freedom, two-sided 99 % (tabulated).
const STUDENT_T: f64 = 3.499;

fn config() -> VaeConfig {
    VaeConfig::preset(Depth::Depth40)
        .with_stage_widths([4, 4, 6, 8])
        .with_intermediate_dim(32)
        .with_latent_dim(8)
}

/// Every weight times `1 +- 1e-7`, by a draw of its own.
fn perturbed(model: Model, run: u64) -> Model {
    let values = named_values(&model);
    let mut draws = Stream::new(run, Purpose::Samples, 0);
    map_named_parameters(model, |name, shape| {
        let (_, values) = &values[name];
        let draws = draws.uniform(values.len());
        let changed = values.iter().zip(draws).map(|(value, draw)| {
            let sign = if draw < 0.5 { -1.0 } else { 1.0 };
            (f64::from(*value) * (1.0 + sign * 1e-7)) as f32
        });
        Some(TensorData::new(changed.collect::<Vec<_>>(), shape.to_vec()))
    })
}

/// The mean loss of the last steps.
fn train(mut model: Model) -> f64 {
    let device = Device::flex().autodiff();
    let data = Cifar10::sample().expect("embedded");
    let batch = NonZeroUsize::new(BATCH).expect("not zero");
    let plan = BatchPlan::training(data.train(), batch, 1, Augment::None);
    let mut adam = Adam::new();
    let mut sum = 0.0;
    for step in 0..STEPS {
        let images = plan.batch(0, step).to_tensor(&device);
        let noise = Stream::new(1, Purpose::TrainingNoise, step as u64).standard_normal(BATCH * 8);
        let noise = Tensor::from_data(TensorData::new(noise, [BATCH, 8]), &device);
        let output = model.forward(images, noise, Sampler::Correct, None);
        let loss = read_terms(&output.terms);
        if step >= STEPS - LAST {
            sum += loss.mean(BATCH);
        }
        let gradients = output.terms.loss().mean().backward();
        model = adam.step(model, gradients, LEARNING_RATE);
    }
    sum / LAST as f64
}

#[test]
fn a_fast_run_lies_in_the_spread_of_perturbed_plain_runs() {
    let device = Device::flex().autodiff();
    let start = || initial_model(&config().into(), 1, &device);
    let plain: Vec<f64> = (0..PLAIN_RUNS as u64)
        .map(|run| with_plain_blocks(|| train(perturbed(start(), run))))
        .collect();
    let fast = train(start());
    let count = plain.len() as f64;
    let mean = plain.iter().sum::<f64>() / count;
    let variance = plain.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // Where one more plain run would lie, 99 times in 100.
    let reach = STUDENT_T * (variance * (1.0 + 1.0 / count)).sqrt();
    println!("plain {plain:.3?}, fast {fast:.3}: {mean:.3} +- {reach:.3}");
    assert!(
        variance > 0.0,
        "the perturbation reached no weight: {plain:?}"
    );
    assert!(
        reach < 0.02 * mean,
        "a spread of {reach} would pass anything"
    );
    assert!(
        (fast - mean).abs() <= reach,
        "{fast} is not {mean} +- {reach}"
    );
}
