//! Devices, ranks and shards against each other and against passes by hand.

use super::*;
use crate::ranks::threads::on_ranks;
use crate::step::adam::trainable;
use crate::step::passes::passes_by_hand::{
    largest_difference, model_and_inputs_on, read, weighted_mean,
};
use burn::module::{ModuleMapper, Param};
use burn::tensor::DType;
use resnet_blocks::join;
use run_files::settings::Precision;
use vae_core::Sampler;

fn start(images: u32, others: usize) -> (Model, Inputs, Replicas) {
    let device = Device::flex().autodiff();
    let (model, inputs, config) = model_and_inputs_on(images, Precision::F32, device.clone());
    let others = vec![device.clone(); others];
    let replicas = Replicas::of(&config, &device, &others);
    (model, inputs, replicas)
}

const OPTIONS: PassOptions = PassOptions {
    micro_batch_size: None,
    sampler: Sampler::Correct,
    gradient_checkpointing: false,
    kl: crate::step::kl_objective::KlObjective::LOSS,
};

fn passed(replicas: &mut Replicas, model: &Model, inputs: &Inputs) -> Pass {
    let mut nobody = |_| Ok::<(), RanksError>(());
    let made = replicas.pass(model, inputs, OPTIONS, &mut nobody);
    made.expect("nobody else is there")
}

#[test]
fn gradients_are_the_weighted_mean_of_those_of_the_shards() {
    for (images, others, ranges) in [
        (7, 1, vec![0..4, 4..7]),
        (8, 2, vec![0..3, 3..6, 6..8]),
        // Too few images for three devices.
        (5, 2, vec![0..3, 3..5]),
    ] {
        let (model, inputs, mut replicas) = start(images, others);
        let found = passed(&mut replicas, &model, &inputs);
        let (expected, loss) = weighted_mean(&model, &inputs, &ranges);
        let gradients = read(&model, &found.gradients.expect("finite"));
        let difference = largest_difference(&expected, &gradients);
        assert!(difference < 1e-6, "{images} images: {difference:e}");
        assert_eq!(found.loss, loss);
    }
}

/// Everything that a pass gives, in bits.
fn bits_of(model: &Model, pass: Pass) -> (Vec<u64>, Vec<u64>, Vec<u32>) {
    let gradients = read(model, &pass.gradients.expect("computed all the same"));
    let statistics = values(pass.running_statistics.expect("of a divided batch"));
    let loss = pass.loss;
    let numbers = [loss.cross_entropy, loss.kl, loss.l2];
    let means = pass.kl_means.unwrap_or_default();
    (
        numbers.into_iter().chain(means).map(f64::to_bits).collect(),
        gradients.into_iter().flatten().map(f64::to_bits).collect(),
        statistics.into_iter().map(f32::to_bits).collect(),
    )
}

/// Shards, devices, micro-batches and ranks are one thing: the same division gives the same bits.
#[test]
fn whoever_computes_the_shards_the_bits_are_the_same() {
    let device = Device::flex().autodiff();
    for (images, free_bits) in [(16, None), (11, None), (5, None), (16, Some(0.05))] {
        let options = PassOptions {
            kl: crate::step::kl_objective::KlObjective {
                weight: 1.0,
                free_bits,
            },
            ..OPTIONS
        };
        let computed = |ranks: &Ranks, devices: usize, options: PassOptions, shards: usize| {
            let (model, inputs, config) =
                model_and_inputs_on(images, Precision::F32, device.clone());
            let others = vec![device.clone(); devices - 1];
            let replicas = Replicas::of(&config, &device, &others);
            let mut replicas = replicas.with_shards(shards, ranks.clone());
            let mut nobody = |_| Ok::<(), RanksError>(());
            let made = replicas.pass(&model, &inputs, options, &mut nobody);
            bits_of(&model, made.expect("all ranks are there"))
        };
        let expected = computed(&Ranks::alone(), 1, options, 4);
        for (ranks, devices) in [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)] {
            for found in on_ranks(ranks, |ranks| computed(ranks, devices, options, 4)) {
                assert!(
                    found == expected,
                    "{images} images, {ranks} ranks, {devices} devices"
                );
            }
        }
        // Devices without a number of shards are as many shards.
        assert!(
            computed(&Ranks::alone(), 4, options, 1) == expected,
            "{images} images"
        );
        if images == 16 {
            let in_four = PassOptions {
                micro_batch_size: Some(4),
                ..options
            };
            assert!(computed(&Ranks::alone(), 1, in_four, 1) == expected);
            let in_two_and_two = PassOptions {
                micro_batch_size: Some(4),
                ..options
            };
            assert!(computed(&Ranks::alone(), 2, in_two_and_two, 1) == expected);
        }
    }
}

/// Model and inputs of [`start`] in float64.
fn start_wide(images: u32, others: usize) -> (Model, Inputs, Replicas) {
    struct Widen;
    impl ModuleMapper for Widen {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let old = param.val();
            let new = old.clone().inner().cast(DType::F64);
            let new = if old.is_require_grad() {
                trainable(new, &old)
            } else {
                Tensor::from_inner(new)
            };
            Param::initialized(param.id, new)
        }
    }
    let (model, inputs, replicas) = start(images, others);
    let inputs = Inputs {
        images: inputs.images.tensor().cast(DType::F64).into(),
        noise: inputs.noise.cast(DType::F64),
        dropout: inputs.dropout.map(|masks| vae_core::DropoutMasks {
            encoder: masks.encoder.cast(DType::F64),
            decoder: masks.decoder.cast(DType::F64),
        }),
    };
    (model.map(&mut Widen), inputs, replicas)
}

/// Shards that share their norms are the undivided batch.
#[test]
fn shared_norms_give_the_pass_of_the_undivided_batch() {
    let l2 = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let distance = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        let differences: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        l2(&differences) / l2(expected)
    };
    let wide =
        |vector: Tensor<1>| -> Vec<f64> { values(vector).into_iter().map(f64::from).collect() };
    let (model, inputs, mut undivided) = start_wide(10, 0);
    let expected = passed(&mut undivided, &model, &inputs);
    let expected_gradients = read(&model, &expected.gradients.expect("finite")).concat();
    let expected_statistics = wide(statistics_vector(&model));
    let of_shards = |shares_norms: bool, gradient_checkpointing: bool| {
        let (model, inputs, replicas) = start_wide(10, 3);
        let mut replicas = Replicas {
            shares_norms,
            ..replicas.with_shards(4, Ranks::alone())
        };
        let options = PassOptions {
            gradient_checkpointing,
            ..OPTIONS
        };
        let mut nobody = |_| Ok::<(), RanksError>(());
        let found = replicas.pass(&model, &inputs, options, &mut nobody);
        let found = found.expect("nobody else is there");
        let gradients = read(&model, &found.gradients.expect("finite")).concat();
        let statistics = wide(found.running_statistics.expect("of a divided batch"));
        (found.loss, gradients, statistics)
    };
    let (loss, gradients, statistics) = of_shards(true, false);
    let found = [
        (loss.cross_entropy / expected.loss.cross_entropy - 1.0).abs(),
        (loss.kl / expected.loss.kl - 1.0).abs(),
        distance(&gradients, &expected_gradients),
        distance(&statistics, &expected_statistics),
    ];
    println!("losses, gradients, running statistics: {found:?}");
    assert!(found.iter().all(|found| *found < 1e-5), "{found:?}");
    let again = of_shards(true, true);
    assert!(
        again == (loss, gradients, statistics),
        "blocks computed again"
    );
    let (_, apart, _) = of_shards(false, false);
    let found = distance(&apart, &expected_gradients);
    assert!(found > 1e-2, "{found:e}: the division has to matter here");
}

/// Running statistics of a divided batch are the means over its parts, each weighted with its images.
#[test]
fn running_statistics_are_the_mean_over_the_shards() {
    let (model, inputs, mut replicas) = start(7, 1);
    let found = passed(&mut replicas, &model, &inputs);
    let found = values(found.running_statistics.expect("of two shards"));
    let before = values(statistics_vector(&model));
    let mut expected = vec![0.0_f64; before.len()];
    for range in [0..4, 4..7] {
        let (model, ..) = start(7, 0);
        let share = range.len() as f64 / 7.0;
        let inputs = inputs.slice(&range);
        let _ = model.forward(
            inputs.images.tensor(),
            inputs.noise,
            Sampler::Correct,
            inputs.dropout,
        );
        for (sum, value) in expected.iter_mut().zip(values(statistics_vector(&model))) {
            *sum += share * f64::from(value);
        }
    }
    assert_ne!(found, before);
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected.abs().max(1.0));
    }
}

#[test]
fn a_shard_that_is_not_finite_is_seen_by_all() {
    let (model, mut inputs, mut replicas) = start(8, 1);
    // The last image is the other device's.
    let images = inputs.images.clone().tensor();
    let last = images.clone().narrow(0, 7, 1).mul_scalar(f32::NAN);
    inputs.images = join(vec![images.narrow(0, 0, 7), last], 0).into();
    let found = passed(&mut replicas, &model, &inputs);
    assert!(found.loss.cross_entropy.is_nan());
    let gradients = read(&model, &found.gradients.expect("computed all the same"));
    assert!(gradients.iter().flatten().any(|value| value.is_nan()));
}

#[test]
fn a_device_that_fails_ends_the_run_with_its_reason() {
    let (model, mut inputs, mut replicas) = start(4, 1);
    // A latent of one dimension too few: a panic, as backends report what goes wrong.
    inputs.noise = inputs.noise.narrow(1, 0, 3);
    let request = Request {
        weights: weights(&model),
        running_statistics: statistics_vector(&model),
        inputs,
        shards: 1,
        batch: 4,
        options: OPTIONS,
        kl: KlWeights::One,
        seat: None,
    };
    let worker = &mut replicas.workers[0];
    worker.ask(request);
    let answer = std::panic::AssertUnwindSafe(|| drop(worker.answer()));
    let panic = std::panic::catch_unwind(answer);
    let reason = panic.expect_err("the worker has failed");
    let reason = reason.downcast_ref::<String>().expect("a text");
    assert!(reason.contains('3') && reason.contains('4'), "{reason}");
}

#[test]
fn replicas_have_the_bits_of_the_main_device_after_several_steps() {
    let (mut model, inputs, mut replicas) = start(8, 2);
    let mut adam = crate::step::adam::Adam::new();
    let bits = |weights: &[Tensor<1>]| -> Vec<u32> {
        let values = weights.iter().map(|weight| {
            let data = weight.clone().into_data();
            data.try_to_vec::<f32>().expect("float32")
        });
        values.flatten().map(f32::to_bits).collect()
    };
    let initial = bits(&weights(&model));
    for _ in 0..4 {
        let gradients = passed(&mut replicas, &model, &inputs).gradients;
        model = adam.step(model, gradients.expect("finite"), 0.01);
    }
    // Every replica says which weights its pass is made with.
    let expected = weights(&model);
    assert_ne!(bits(&expected), initial);
    let groups = replicas.groups(8);
    for (worker, group) in replicas.workers.iter_mut().zip(&groups[1..]) {
        let request = Request {
            weights: expected.clone(),
            running_statistics: statistics_vector(&model),
            inputs: inputs.slice(&group.images),
            shards: group.shards,
            batch: 8,
            options: OPTIONS,
            kl: KlWeights::One,
            seat: None,
        };
        worker.ask(request);
    }
    for worker in &mut replicas.workers {
        let answer = worker.answer();
        assert!(bits(&answer.weights) == bits(&expected));
    }
}
