//! Whether short trainings with one seed are equal to the bit: replayed as graphs, launched kernel by kernel, and in another process.

use std::hash::{DefaultHasher, Hasher};
use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Cifar10};

use super::child::watch;
use super::error::GpuCheckError;
use super::part::{Part, PartOptions};
use super::row::{Compared, DeterminismRow, Row, TensorRow, TrainedRow};
use crate::device::kernel_names::compiled_kernel;
use crate::experiment::model::{initial_model, model_config};
use crate::experiment::random::{Purpose, Stream};
use crate::process::own_program::this_program;
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::Inputs;
use crate::step::replicas::Replicas;
use crate::step::request::{EngineOptions, StepRequest};
use run_files::settings::{Precision, Settings};
use run_files::step_guard::StepGuard;

/// Steps of each training.
const STEPS: usize = 5;

/// Trains three times in this process and once in another, and compares the others with the first.
///
/// # Errors
/// Where the settings fit no model, or the other process fails.
pub(super) fn compare_trainings(
    settings: &Settings,
    options: &PartOptions,
    device: &Device,
    on_row: &mut dyn FnMut(Row),
) -> Result<(), GpuCheckError> {
    let precision = settings.precision;
    let first = trained(settings, device, false, on_row)?;
    let again = trained(settings, device, false, on_row)?;
    on_row(compared(precision, Compared::Again, &first, &again));
    let launched = trained(settings, device, true, on_row)?;
    on_row(compared(precision, Compared::Launched, &first, &launched));
    let other = in_another_process(precision, options, on_row)?;
    on_row(compared(precision, Compared::OtherProcess, &first, &other));
    Ok(())
}

/// Trains in this process from the beginning, and tells each step.
///
/// # Errors
/// Where the settings fit no model.
pub(super) fn trained(
    settings: &Settings,
    device: &Device,
    is_launched: bool,
    on_row: &mut dyn FnMut(Row),
) -> Result<TrainedRow, GpuCheckError> {
    let how = if is_launched { ", launched" } else { "" };
    train(settings, device, is_launched, &mut |done| {
        let text = format!("training step {} of {STEPS}{how}", done + 1);
        // The first step compiles the kernels of all.
        on_row(Row::stage(text, done == 0));
    })
}

/// The same in another process of this program.
fn in_another_process(
    precision: Precision,
    options: &PartOptions,
    on_row: &mut dyn FnMut(Row),
) -> Result<TrainedRow, GpuCheckError> {
    let mut command = this_program();
    command
        .args(["gpu-check", "--run-part"])
        .arg(Part::Trained(precision).to_string())
        .args(["--device", &options.device.to_string()])
        .arg("--out")
        .arg(&options.out);
    let mut stand = "it starts".to_owned();
    let mut trained = None;
    on_row(Row::stage(format!("another process, {stand}"), true));
    watch(command, &mut |line| {
        let compiles = match serde_json::from_str(line) {
            Ok(Row::Stage(row)) => {
                stand = row.stage;
                row.compiles
            }
            Ok(Row::Trained(row)) => return trained = Some(row),
            _ => match compiled_kernel(line) {
                Some(kernel) => {
                    let text = format!(
                        "another process, {stand}, the last kernel it began to compile: {kernel}"
                    );
                    return on_row(Row::stage(text, true));
                }
                None => return,
            },
        };
        on_row(Row::stage(format!("another process, {stand}"), compiles));
    })?;
    trained.ok_or_else(|| GpuCheckError::Start {
        reason: "it said nothing of its training".to_owned(),
    })
}

/// How many losses, and weights in tensors, are the same to the bit.
fn compared(
    precision: Precision,
    compared: Compared,
    first: &TrainedRow,
    other: &TrainedRow,
) -> Row {
    let losses = first.losses.iter().zip(&other.losses);
    let tensors = first.tensors.iter().zip(&other.tensors);
    Row::Determinism(DeterminismRow {
        precision,
        compared,
        steps: STEPS,
        equal_losses: losses.filter(|(a, b)| a.is_some() && a == b).count(),
        weights: first.tensors.iter().map(|tensor| tensor.numbers).sum(),
        equal_weights: tensors
            .filter(|(a, b)| a.bits.is_some() && a == b)
            .map(|(a, _)| a.numbers)
            .sum(),
        is_demanded: true,
    })
}

/// The bits of numbers; none where any of them is not finite, which equals nothing.
fn bits(values: &[f32]) -> TensorRow {
    let mut hasher = DefaultHasher::new();
    for value in values {
        hasher.write_u32(value.to_bits());
    }
    let is_finite = values.iter().all(|value| value.is_finite());
    TensorRow {
        numbers: values.len(),
        bits: is_finite.then(|| hasher.finish()),
    }
}

fn train(
    settings: &Settings,
    device: &Device,
    is_launched: bool,
    on_step: &mut dyn FnMut(usize),
) -> Result<TrainedRow, GpuCheckError> {
    let device = device.clone().autodiff();
    let model = initial_model(&model_config(settings)?, settings.seed, &device);
    let usual = EngineOptions::of(settings);
    let options = EngineOptions {
        is_launched: is_launched || usual.is_launched,
        ..usual
    };
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
    Ok(TrainedRow {
        losses: losses
            .into_iter()
            .map(|loss| loss.is_finite().then(|| loss.to_bits()))
            .collect(),
        tensors: weights.map(|(_, values)| bits(&values)).collect(),
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
        let train = |seed, is_launched| {
            train(&settings(seed), &device, is_launched, &mut |_| {}).expect("a model")
        };
        let first = train(1, false);
        let row = |other: &TrainedRow| {
            let row = compared(Precision::F32, Compared::Launched, &first, other);
            let Row::Determinism(row) = row else {
                panic!("{row:?}")
            };
            row
        };
        let same = row(&train(1, true));
        assert!(same.is_equal() && same.weights > 1000, "{same:?}");
        let other = row(&train(2, false));
        assert_eq!(other.equal_losses, 0);
        // Some begin at zero or one, whatever the seed is.
        assert!(other.equal_weights < other.weights / 2, "{other:?}");
    }

    #[test]
    fn what_is_no_number_equals_nothing_and_a_bit_makes_a_difference() {
        assert_eq!(bits(&[1.0, f32::NAN]).bits, None);
        assert_eq!(bits(&[1.0, 2.0]), bits(&[1.0, 2.0]));
        assert_ne!(bits(&[0.0]), bits(&[-0.0]));
        let row = |losses: [Option<u64>; 2]| TrainedRow {
            losses: losses.into(),
            tensors: vec![bits(&[f32::NAN]), bits(&[1.0, 2.0])],
        };
        let row = compared(
            Precision::F32,
            Compared::Again,
            &row([None, Some(1)]),
            &row([None, Some(1)]),
        );
        let Row::Determinism(row) = row else {
            panic!("{row:?}")
        };
        assert_eq!(
            [row.equal_losses, row.weights, row.equal_weights],
            [1, 3, 2]
        );
        let text = Row::Determinism(row).failure().expect("a failure");
        assert!(text.starts_with("trained again: 1 of 5 losses"), "{text}");
    }
}
