//! Whether two short trainings with one seed are equal to the bit.

use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Cifar10};

use super::error::GpuCheckError;
use super::row::DeterminismRow;
use crate::experiment::model::{initial_model, model_config};
use crate::experiment::random::{Purpose, Stream};
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::Inputs;
use crate::step::replicas::Replicas;
use crate::step::request::{EngineOptions, StepRequest};
use run_files::settings::Settings;
use run_files::step_guard::StepGuard;

/// Steps of each training.
const STEPS: usize = 5;

/// Trains twice in this process, each from the beginning, and compares losses and weights; `on_step` is told how many steps have been taken, and of how many.
///
/// # Errors
/// Where the settings fit no model.
pub(super) fn train_twice(
    settings: &Settings,
    is_demanded: bool,
    device: &Device,
    on_step: &mut dyn FnMut(usize, usize),
) -> Result<DeterminismRow, GpuCheckError> {
    let first = train(settings, device, &mut |done| on_step(done, 2 * STEPS))?;
    let second = train(settings, device, &mut |done| {
        on_step(STEPS + done, 2 * STEPS)
    })?;
    Ok(DeterminismRow {
        precision: settings.precision,
        steps: STEPS,
        equal_losses: equal(&first.losses, &second.losses),
        weights: first.weights.len(),
        equal_weights: equal(&first.weights, &second.weights),
        is_demanded,
    })
}

struct Trained {
    /// Mean loss of every step.
    losses: Vec<f64>,
    /// All parameters and running statistics, from float32.
    weights: Vec<f64>,
}

/// How many numbers are the same to the bit, which those that are not finite never are.
fn equal(first: &[f64], second: &[f64]) -> usize {
    let pairs = first.iter().zip(second);
    pairs
        .filter(|(a, b)| a.is_finite() && a.to_bits() == b.to_bits())
        .count()
}

fn train(
    settings: &Settings,
    device: &Device,
    on_step: &mut dyn FnMut(usize),
) -> Result<Trained, GpuCheckError> {
    let device = device.clone().autodiff();
    let model = initial_model(&model_config(settings)?, settings.seed, &device);
    let options = EngineOptions::of(settings);
    let mut engine = Engine::new(model, Replicas::none(&device), options);
    let mut guard = StepGuard::default();
    let data = Cifar10::sample()?;
    let batch_size =
        NonZeroUsize::new(settings.batch_size).expect("validated settings have a batch");
    let augment = crate::experiment::data::augment(settings);
    let plan = BatchPlan::training(data.train(), batch_size, settings.seed, augment);
    let mut losses = Vec::new();
    for step in 0..STEPS {
        on_step(step);
        let batch = plan.batch(0, step % plan.num_batches());
        let shape = [batch.len(), settings.latent_dim];
        let noise = Stream::new(settings.seed, Purpose::TrainingNoise, step as u64)
            .standard_normal(shape.iter().product());
        let inputs = Inputs {
            images: batch.to_tensor(&device).into(),
            noise: Tensor::from_data(TensorData::new(noise, shape), &device),
            dropout: None,
        };
        let request = StepRequest {
            step: step as u64,
            inputs,
            learning_rate: settings.learning_rate,
            kl: KlObjective::LOSS,
            next_kl_weight: 1.0,
        };
        let report = engine.step(request, &mut guard, &FaultInjector::none());
        let report = report.expect("there are no other ranks");
        losses.extend(report.map(|report| report.loss.mean(report.images)));
    }
    let last = engine.settle(&mut guard);
    losses.extend(last.map(|report| report.loss.mean(report.images)));
    let weights = engine.weights().into_values();
    Ok(Trained {
        losses,
        weights: weights
            .flat_map(|(_, values)| values)
            .map(f64::from)
            .collect(),
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            depth: 28,
            width: 0.02,
            latent_dim: 4,
            intermediate_dim: 16,
            batch_size: 2,
            seed,
            ..Settings::default()
        }
    }

    #[test]
    fn equal_seeds_train_alike_and_others_do_not() {
        let device = Device::flex();
        let row = train_twice(&settings(1), true, &device, &mut |_, _| {}).expect("a model");
        assert!(row.is_equal() && row.weights > 1000, "{row:?}");
        let [first, other] =
            [1, 2].map(|seed| train(&settings(seed), &device, &mut |_| {}).expect("a model"));
        assert_eq!(equal(&first.losses, &other.losses), 0);
    }

    #[test]
    fn what_is_no_number_equals_nothing() {
        assert_eq!(equal(&[f64::NAN, 0.0, 1.0], &[f64::NAN, -0.0, 1.0]), 1);
    }
}
