//! A batch as a whole and divided, against means by hand.

use super::*;
use crate::ranks::Ranks;
use crate::step::block_checkpointing::kl_sums_of_micro_batches;
use crate::step::passes::passes_by_hand::{
    largest_difference, model_and_inputs_on, read, weighted_mean,
};
use crate::step::passes::replicas::Replicas;
use run_files::settings::Precision;

fn options(micro_batch_size: Option<usize>) -> PassOptions {
    PassOptions {
        micro_batch_size,
        sampler: Sampler::Correct,
        gradient_checkpointing: false,
        kl: KlObjective::LOSS,
    }
}

/// A pass on one device, in as many parts as the options say.
fn passed(model: &Model, inputs: &Inputs, options: PassOptions) -> Pass {
    let device = inputs.images.clone().tensor().device();
    let mut replicas = Replicas::none(&device).with_shards(1, Ranks::alone());
    let mut nobody = |_| Ok::<(), crate::ranks::RanksError>(());
    let made = replicas.pass(model, inputs, options, &mut nobody);
    made.expect("nobody else is there")
}

fn model_and_inputs(images: u32) -> (Model, Inputs) {
    let device = Device::flex().autodiff();
    let (model, inputs, _) = model_and_inputs_on(images, Precision::F32, device);
    (model, inputs)
}

#[test]
fn summed_gradients_are_the_weighted_mean_of_those_of_the_parts() {
    let (model, inputs) = model_and_inputs(7);
    let found = passed(&model, &inputs, options(Some(3)));
    let gradients = found.gradients.expect("finite");

    let (expected, loss) = weighted_mean(&model, &inputs, &[0..3, 3..5, 5..7]);
    let difference = largest_difference(&expected, &read(&model, &gradients));
    assert!(difference < 1e-6, "{difference:e}");
    assert_eq!(found.loss, loss);
}

#[test]
fn penalties_count_once() {
    let (model, inputs) = model_and_inputs(6);
    let found = passed(&model, &inputs, options(Some(2)));
    // 0.01 and 0.1 times the squares of the heads' weights; the biases are zero.
    let weights = crate::experiment::weights::named_values(&model);
    let squares = |name: &str| {
        let (_, values) = &weights[name];
        values
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
    };
    let expected =
        0.01 * squares("encoder.mean.weight") + 0.1 * squares("encoder.log_variance.weight");
    assert!((found.loss.l2 - expected).abs() < 1e-5 * expected);
}

#[test]
fn blocks_computed_again_give_the_same_bits() {
    let outcome = |precision, is_plain, gradient_checkpointing, micro_batch_size| {
        let device = Device::flex().autodiff();
        let (model, inputs, _) = model_and_inputs_on(6, precision, device);
        let options = PassOptions {
            gradient_checkpointing,
            ..options(micro_batch_size)
        };
        let pass = || passed(&model, &inputs, options);
        let found = if is_plain {
            resnet_blocks::with_plain_blocks(pass)
        } else {
            pass()
        };
        let gradients = read(&model, &found.gradients.expect("finite"));
        let statistics = crate::experiment::weights::named_values(&model.valid());
        let of_parts = found.running_statistics;
        let of_parts = of_parts.map(|all| all.into_data().try_to_vec::<f32>().expect("float32"));
        (found.loss, gradients, (statistics, of_parts))
    };
    for (precision, is_plain) in [
        (Precision::F32, false),
        (Precision::F32, true),
        (Precision::Bf16, true),
        (Precision::Bf16, false),
    ] {
        for micro_batch_size in [None, Some(3)] {
            let kept = outcome(precision, is_plain, false, micro_batch_size);
            let again = outcome(precision, is_plain, true, micro_batch_size);
            let case = format!("{precision}, plain {is_plain}, {micro_batch_size:?}");
            assert_eq!(kept.0, again.0, "{case}");
            assert!(kept.1 == again.1, "{case}: gradients");
            assert!(kept.2 == again.2, "{case}: running statistics");
        }
    }
}

#[test]
fn an_undivided_batch_has_the_bits_of_a_plain_pass() {
    let (model, inputs) = model_and_inputs(5);
    let whole = inputs.slice(&(0..5));
    let output = model.forward(
        whole.images.tensor(),
        whole.noise,
        Sampler::Correct,
        whole.dropout,
    );
    let expected = read(&model, &output.terms.loss().mean().backward());
    for micro_batch_size in [None, Some(5), Some(50)] {
        let found = passed(&model, &inputs, options(micro_batch_size));
        assert!(read(&model, &found.gradients.expect("finite")) == expected);
    }
}

/// Free bits on a divided batch: as on the whole one, because its mean decides, not the parts'.
#[test]
fn free_bits_are_of_the_whole_batch() {
    let (model, inputs) = model_and_inputs(6);
    let objective = |free| KlObjective {
        weight: 0.5,
        free_bits: Some(free),
    };
    let undivided = |free| {
        let options = PassOptions {
            kl: objective(free),
            ..options(None)
        };
        passed(&model, &inputs, options)
    };
    // Nothing is free, or everything is.
    let all = undivided(1e-9);
    let means = all.kl_means.expect("there are free bits");
    let weighted = PassOptions {
        kl: KlObjective {
            weight: 0.5,
            free_bits: None,
        },
        ..options(None)
    };
    let weighted = passed(&model, &inputs, weighted);
    let gradients = |pass: Pass| read(&model, &pass.gradients.expect("finite"));
    let distance = |a: &[Vec<f64>], b: &[Vec<f64>]| {
        let pairs = a.iter().flatten().zip(b.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let largest = |all: &[Vec<f64>]| all.iter().flatten().fold(0.0, |a: f64, b| a.max(b.abs()));
    let of_weighted = gradients(weighted);
    let of_all = read(&model, &all.gradients.expect("finite"));
    assert!(distance(&of_all, &of_weighted) <= 1e-5 * largest(&of_weighted));
    // In parts, which are normalised by themselves, means and gradients are the parts' own; what is free is decided once.
    let mut sorted = means.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    let options = PassOptions {
        kl: objective(middle),
        ..options(Some(2))
    };
    let all = inputs_of_micro_batches(&inputs, 2);
    let sums = kl_sums_of_micro_batches(&model, all.into_iter());
    let known = sums
        .into_iter()
        .reduce(|sum, other| sum.iter().zip(other).map(|(a, b)| a + b).collect());
    let known: Vec<f64> = known
        .expect("three micro-batches")
        .into_iter()
        .map(|sum| sum / 6.0)
        .collect();
    let found = passed(&model, &inputs, options);
    assert_eq!(found.kl_means.as_deref(), Some(known.as_slice()));
    let slopes = vae_measures::free_bits_gradient(&known, middle);
    let expected = (0..3).map(|index| {
        let inputs = inputs.slice(&(2 * index..2 * index + 2));
        let output = model.forward(
            inputs.images.tensor(),
            inputs.noise,
            Sampler::Correct,
            inputs.dropout,
        );
        let slopes: Vec<f32> = slopes.iter().map(|slope| 0.5 * *slope as f32).collect();
        let device = output.terms.kl.device();
        let slopes = Tensor::<1>::from_floats(slopes.as_slice(), &device).unsqueeze::<2>();
        let kl = (output.posterior.kl_per_dimension() * slopes)
            .sum_dim(1)
            .squeeze_dim::<1>(1);
        let loss = output.terms.cross_entropy + kl + output.terms.l2;
        read(&model, &loss.mean().backward())
    });
    let sum = expected
        .map(|gradients| {
            gradients
                .into_iter()
                .map(|values| values.into_iter().map(|v| v / 3.0).collect::<Vec<f64>>())
                .collect::<Vec<_>>()
        })
        .reduce(|a, b| {
            a.into_iter()
                .zip(b)
                .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
                .collect()
        })
        .expect("three micro-batches");
    assert!(distance(&gradients(found), &sum) <= 1e-5 * largest(&sum));
}

fn inputs_of_micro_batches(inputs: &Inputs, size: usize) -> Vec<ForwardInputs> {
    (0..inputs.len() / size)
        .map(|index| {
            inputs
                .slice(&(size * index..size * (index + 1)))
                .forward(Sampler::Correct)
        })
        .collect()
}
