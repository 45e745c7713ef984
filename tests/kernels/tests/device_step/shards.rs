//! Steps of a batch in shards.

use burn::prelude::*;
use vae_core::{Depth, Sampler, VaeConfig};
use vae_device_step::{BatchTerms, DeviceStep, Outcome, ShardPass, StepInputs};

use crate::{batch, bits, config, model, options, rates, step, vulkan};

fn slice(inputs: StepInputs, range: std::ops::Range<usize>) -> StepInputs {
    let rows = |all: Tensor<2>| all.narrow(0, range.start, range.len());
    StepInputs {
        images: inputs.images.narrow(0, range.start, range.len()),
        noise: rows(inputs.noise),
        dropout: inputs.dropout.map(|masks| vae_core::DropoutMasks {
            encoder: rows(masks.encoder),
            decoder: rows(masks.decoder),
        }),
    }
}

/// The step of a batch of so many images in shards of these lengths.
fn divided(
    engine: &mut DeviceStep,
    config: &VaeConfig,
    (len, number): (usize, usize),
    lengths: &[usize],
) -> Outcome {
    let mut values = vec![0.0; engine.pass_len()];
    let mut terms = BatchTerms {
        cross_entropy: 0.0,
        kl: 0.0,
    };
    let mut first = 0;
    for length in lengths {
        let inputs = slice(batch(config, len, number, &vulkan()), first..first + length);
        let pass = engine.pass(inputs, rates(1.0)).expect("a pass");
        let ShardPass {
            terms: own,
            values: of_shard,
        } = pass;
        let share = *length as f32 / len as f32;
        for (sum, value) in values.iter_mut().zip(of_shard) {
            *sum += share * value;
        }
        terms.cross_entropy += own.cross_entropy;
        terms.kl += own.kl;
        first += length;
    }
    assert_eq!(first, len, "every image once");
    let pending = engine
        .update(&values, terms, rates(1.0))
        .expect("an update");
    let outcome = pending.wait().expect("an outcome");
    engine.observe(&outcome);
    outcome
}

#[test]
fn a_batch_that_is_one_shard_takes_the_whole_step() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let options = options(Sampler::Correct, true);
    let mut whole = DeviceStep::new(&start, options).expect("known kernels");
    let mut engine = DeviceStep::new(&start, options).expect("known kernels");
    for number in 0..4 {
        let inputs = batch(&config, 4, number, &vulkan());
        let expected = step(&mut whole, inputs, rates(1.0));
        let found = divided(&mut engine, &config, (4, number), &[4]);
        assert_eq!(
            (found.gradient_norm, found.updates, found.l2),
            (expected.gradient_norm, expected.updates, expected.l2)
        );
    }
    // The variances are multiplied in another order.
    let is_exact = |name: &String| !name.ends_with("running_var");
    let of = |engine| bits(engine, &config).into_iter();
    let [found, expected] = [of(&engine), of(&whole)]
        .map(|all| all.filter(|(name, _)| is_exact(name)).collect::<Vec<_>>());
    assert!(found == expected);
}

#[test]
fn the_gradients_of_shards_are_the_mean_of_their_own() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let options = options(Sampler::Correct, false);
    let mut engine = DeviceStep::new(&start, options).expect("known kernels");
    let outcome = divided(&mut engine, &config, (5, 1), &[3, 2]);
    assert!(outcome.is_taken);
    let found = engine.gradients().expect("a device that works");
    // Steps of each half, from the same start: both have the penalties, whose gradient is the same.
    let halves = [0..3, 3..5].map(|range| {
        let mut engine = DeviceStep::new(&start, options).expect("known kernels");
        let inputs = slice(batch(&config, 5, 1, &vulkan()), range.clone());
        let outcome = step(&mut engine, inputs, rates(1.0));
        let gradients = engine.gradients().expect("a device that works");
        (range.len() as f64 / 5.0, outcome, gradients)
    });
    let terms: f64 = halves.iter().map(|(_, half, _)| half.cross_entropy).sum();
    assert!((outcome.cross_entropy - terms).abs() < 1e-6 * terms);
    for (name, values) in &found {
        let largest = values
            .iter()
            .fold(0.0f32, |all, value| all.max(value.abs()));
        for (index, value) in values.iter().enumerate() {
            let expected: f64 = halves
                .iter()
                .map(|(share, _, half)| share * f64::from(half[name][index]))
                .sum();
            assert!(
                (f64::from(*value) - expected).abs() <= 1e-6 * f64::from(largest),
                "{name}: {value} and {expected}"
            );
        }
    }
}
