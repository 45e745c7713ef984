//! Steps of a batch in shards.

use burn::prelude::*;
use vae_core::{Depth, Sampler, VaeConfig};
use vae_device_step::{BatchTerms, DeviceStep, DeviceVector, Outcome, StepInputs};

use crate::{batch, bits, config, model, options, rates, step, vulkan};

fn slice(inputs: StepInputs, range: std::ops::Range<usize>) -> StepInputs {
    let rows = |all: Tensor<2>| all.narrow(0, range.start, range.len());
    StepInputs {
        images: inputs
            .images
            .tensor()
            .narrow(0, range.start, range.len())
            .into(),
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
    let mut values: Option<DeviceVector> = None;
    let mut terms = BatchTerms {
        cross_entropy: 0.0,
        kl: 0.0,
    };
    let mut first = 0;
    for length in lengths {
        let inputs = slice(batch(config, len, number, &vulkan()), first..first + length);
        let share = *length as f32 / len as f32;
        let pass = engine.pass(inputs, share, rates(1.0)).expect("a pass");
        values = Some(match values {
            Some(sum) => sum.and(pass.values),
            None => pass.values,
        });
        terms.cross_entropy += pass.terms.cross_entropy;
        terms.kl += pass.terms.kl;
        first += length;
    }
    let values = values.expect("a shard");
    assert_eq!(first, len, "every image once");
    let pending = engine
        .update(&values, terms, rates(1.0))
        .expect("an update");
    let outcome = pending.wait().expect("an outcome");
    engine.observe(&outcome).expect("all products");
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

/// Three shards, the last one smaller: the tree is (0 + 1) + 2. What is multiplied and added is float32, so that every bit is known.
#[test]
fn sums_on_the_device_have_the_bits_of_the_hosts() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let options = options(Sampler::Correct, false);
    let mut engine = DeviceStep::new(&start, options).expect("known kernels");
    let mut pass = |range: std::ops::Range<usize>, share| {
        let inputs = slice(batch(&config, 8, 1, &vulkan()), range);
        let pass = engine.pass(inputs, share, rates(1.0)).expect("a pass");
        pass.values
    };
    let shards = [(0..3, 0.375f32), (3..6, 0.375), (6..8, 0.25)];
    let all = |values: &DeviceVector| values.read(0..values.len()).expect("a device that works");
    let weighted: Vec<Vec<f32>> = shards
        .iter()
        .map(|(range, share)| {
            let values = all(&pass(range.clone(), 1.0));
            values.into_iter().map(|value| value * share).collect()
        })
        .collect();
    let expected = (0..weighted[0].len())
        .map(|at| ((weighted[0][at] + weighted[1][at]) + weighted[2][at]).to_bits());
    let [first, second, third] = shards.map(|(range, share)| pass(range, share));
    let sum = first.and(second).and(third);
    let found = all(&sum);
    // The rest lies between parameters.
    assert!(found.iter().filter(|value| **value != 0.0).count() > 1_000);
    assert!(found.iter().map(|value| value.to_bits()).eq(expected));

    // Pieces are added where they are, and nothing beside them.
    let piece = DeviceVector::ALIGNMENT..3 * DeviceVector::ALIGNMENT;
    let ones = pass(0..3, 1.0);
    ones.write(0, &vec![1.0; ones.len()]);
    sum.add(&ones, piece.clone());
    let added = all(&sum);
    for (at, (added, found)) in added.iter().zip(&found).enumerate() {
        let one = if piece.contains(&at) { 1.0 } else { 0.0 };
        assert_eq!(added.to_bits(), (found + one).to_bits(), "{at}");
    }
    assert_eq!(
        sum.read(piece.clone()).expect("a device that works"),
        added[piece]
    );
}
