//! How long a training step takes, phase by phase.

use std::num::NonZeroUsize;
use std::time::Instant;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Cifar10};
use resnet_blocks::with_plain_blocks;
use serde::Serialize;

use super::between_ranks::BetweenRanks;
use super::error::TimingError;
use super::likelihood_timing::{LikelihoodTiming, processor_seconds, time_likelihood};
use super::median::median;
use crate::device::failure_text::causes;
use crate::device::{DeviceError, unplanned_products};
use crate::experiment::data;
use crate::experiment::evaluate::{BatchScorer, ModelScorer};
use crate::experiment::model::{initial_model, model_config};
use crate::experiment::random::{Purpose, Stream};
use crate::experiment::split_images::{ImagePlace, SplitImages};
use crate::ranks::Ranks;
use crate::ranks::division::divided;
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::{Inputs, Phase};
use crate::step::replicas::Replicas;
use crate::step::request::{EngineOptions, StepRequest};
use run_files::metrics::peak_memory_bytes;
use run_files::settings::Settings;
use run_files::step_guard::StepGuard;

/// Median, extremes and phases of a training step, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct StepTiming {
    /// Median of whole steps.
    pub seconds_per_step: f64,
    /// The fastest step.
    pub fastest: f64,
    /// The slowest step.
    pub slowest: f64,
    /// Batch size over the median.
    pub images_per_second: f64,
    /// The process's largest resident memory so far, where the system tells.
    pub peak_bytes: Option<u64>,
    /// Seconds from the first step's start to its end: compiling and tuning of kernels included.
    pub first_step_seconds: f64,
    /// Steps that counted.
    pub steps: usize,
    /// Medians of the phases; none of a GPU's own steps, which go on behind the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
    /// Seconds of all processors together a step, where the system tells.
    pub processor_seconds_per_step: Option<f64>,
    /// What the backend had taken of a GPU's memory at the end of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
    /// Why steps were launched kernel by kernel, where a GPU should have replayed them as a graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_failure: Option<String>,
    /// Which products a GPU's library refused, where it did: the step is slower than it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplanned_products: Option<String>,
    /// What of it is the likelihood alone; none in evaluation, and of a GPU's own steps.
    pub likelihood: Option<LikelihoodTiming>,
    /// What the step spends on other ranks, where there are any; the phases contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_ranks: Option<BetweenRanks>,
}

/// Medians of the phases of a step, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Phases {
    /// Making the batch and its noise, and bringing them to the device.
    pub data_seconds: f64,
    /// Forward pass and reading the loss.
    pub forward_seconds: f64,
    /// Backward pass, and the norms of the gradients; 0 in evaluation.
    pub backward_seconds: f64,
    /// Optimizer; 0 in evaluation.
    pub optimizer_seconds: f64,
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub struct TimingOptions {
    /// Steps before those that count; at least one on a device that compiles kernels.
    pub warmup: usize,
    /// Steps that count; at least one.
    pub steps: usize,
    /// Evaluation instead of training: the forward pass with running statistics, no gradients.
    pub is_evaluation: bool,
    /// Burn's own layers in place of this project's operations.
    pub is_plain: bool,
    /// Kernel by kernel, where a GPU could replay a step as a graph.
    pub is_launched: bool,
}

/// Takes `warmup + steps` batches of the embedded sample through a step and times the last `steps`.
///
/// # Errors
/// Where the settings fit no model, or the device fails.
///
/// # Panics
/// If `steps` is zero.
pub fn time_steps(
    settings: &Settings,
    options: TimingOptions,
    device: &Device,
) -> Result<StepTiming, TimingError> {
    time_steps_watched(settings, options, device, &mut |_| {})
}

/// As [`time_steps`]; `on_step` is told after each step how many have been taken.
///
/// # Errors
/// As there.
pub(crate) fn time_steps_watched(
    settings: &Settings,
    options: TimingOptions,
    device: &Device,
    on_step: &mut dyn FnMut(usize),
) -> Result<StepTiming, TimingError> {
    in_form(settings, options, (device, &Ranks::alone()), on_step)
}

/// As [`time_steps`], over the ranks that share each batch; each of them times its own shards.
///
/// # Errors
/// As [`time_steps`], or where a rank is lost.
pub fn time_steps_on_ranks(
    settings: &Settings,
    options: TimingOptions,
    device: &Device,
    ranks: &Ranks,
) -> Result<StepTiming, TimingError> {
    let settings = divided(settings, ranks)?;
    in_form(&settings, options, (device, ranks), &mut |_| {})
}

/// In the layers that the options say.
fn in_form(
    settings: &Settings,
    options: TimingOptions,
    on: (&Device, &Ranks),
    on_step: &mut dyn FnMut(usize),
) -> Result<StepTiming, TimingError> {
    if options.is_plain {
        with_plain_blocks(|| timed_steps(settings, options, on, on_step))
    } else {
        timed_steps(settings, options, on, on_step)
    }
}

fn timed_steps(
    settings: &Settings,
    options: TimingOptions,
    (device, ranks): (&Device, &Ranks),
    on_step: &mut dyn FnMut(usize),
) -> Result<StepTiming, TimingError> {
    let TimingOptions { warmup, steps, .. } = options;
    // No rate counts the step in which kernels are compiled.
    let warmup = warmup.max(usize::from(settings.device.are_gpus()));
    assert!(steps > 0, "a median needs at least one step");
    let plain_device = device.clone().inner();
    let device = device.clone().autodiff();
    let config = model_config(settings)?;
    let model = initial_model(&config, settings.seed, &device);
    let engine_options = EngineOptions {
        is_launched: options.is_launched,
        ..EngineOptions::of(settings)
    };
    let replicas = Replicas::of_settings(settings, &config, &device, &[], ranks);
    let mut engine = Engine::new(model, replicas, engine_options);
    // Where nothing is evaluated, nobody else may hold the weights: they are updated in place.
    let evaluated = options.is_evaluation.then(|| engine.model().valid());
    let device = if options.is_evaluation {
        plain_device
    } else {
        device
    };
    let mut guard = StepGuard::default();
    let batch_size =
        NonZeroUsize::new(settings.batch_size).expect("validated settings have a batch");
    let data = Cifar10::sample()?;
    let plan = BatchPlan::training(
        data.train(),
        batch_size,
        settings.seed,
        data::augment(settings),
    );
    let lost = |reason: String| DeviceError::Lost {
        device: settings.device.main(),
        reason,
    };
    let wait = || device.sync().map_err(|error| lost(error.to_string()));
    // A GPU's own steps go on behind the host as in training, which makes the next batch meanwhile: the host is held up by the outcome of the step before.
    let is_behind = engine.is_on_device() && !options.is_evaluation;

    // As in training: on a GPU the images lie there.
    let split = SplitImages::new(plan.view(), &device, ImagePlace::of(&device));
    let mut epoch = split.epoch(&plan, 0);
    let mut phases: [Vec<f64>; 4] = Default::default();
    let mut wholes = Vec::new();
    let mut spent = Vec::new();
    let mut processors = None;
    for step in 0..warmup + steps {
        if step == warmup {
            processors = processor_seconds();
        }
        let mut seconds = [0.0; 4];
        let whole = Instant::now();
        let mut began = whole;
        let mut lap = |phase: usize| {
            seconds[phase] += began.elapsed().as_secs_f64();
            began = Instant::now();
        };
        let (number, index) = (step / plan.num_batches(), step % plan.num_batches());
        if index == 0 && step > 0 {
            epoch = split.epoch(&plan, number as u64);
        }
        let images = epoch.batch(index);
        let batch = images.len();
        let noise = Stream::new(settings.seed, Purpose::TrainingNoise, step as u64)
            .standard_normal(batch * settings.latent_dim);
        let noise = Tensor::from_data(
            TensorData::new(noise, [batch, settings.latent_dim]),
            &device,
        );
        let waits = !is_behind || step < warmup || step + 1 == warmup + steps;
        if !is_behind {
            wait()?;
        }
        lap(0);
        let inputs = Inputs {
            images,
            noise,
            dropout: None,
        };
        let mut ended = |phase| {
            if waits {
                wait()?;
            }
            lap(match phase {
                Phase::Forward => 1,
                Phase::Backward => 2,
                Phase::Optimizer => 3,
            });
            Ok::<(), TimingError>(())
        };
        if let Some(evaluated) = &evaluated {
            let Inputs { images, noise, .. } = inputs;
            let (batch, sampler) = (images.len(), engine_options.sampler);
            match engine.device_scorer(engine.scored_weights()) {
                Some(mut scorer) => scorer.score(images, noise, sampler, batch),
                None => ModelScorer(evaluated).score(images, noise, sampler, batch),
            };
            ended(Phase::Forward)?;
        } else {
            let request = StepRequest {
                step: step as u64,
                inputs,
                learning_rate: settings.learning_rate,
                kl: KlObjective::LOSS,
                next_kl_weight: 1.0,
            };
            let faults = FaultInjector::none();
            engine.watched_step(request, &mut guard, &faults, &mut ended)?;
        }
        wholes.push(whole.elapsed().as_secs_f64());
        spent.push(ranks.take_spent());
        for (all, seconds) in phases.iter_mut().zip(seconds) {
            all.push(seconds);
        }
        on_step(step + 1);
    }
    let processors = processor_seconds().zip(processors);
    // After the steps, whose memory it must not add to.
    let peak_bytes = peak_memory_bytes();
    let pool_bytes = device.memory_pool_usage().map(|pool| pool.bytes_reserved);
    // A GPU's own step has a kernel of its own for it.
    let has_own = options.is_evaluation || engine.is_on_device();
    let likelihood = (!has_own).then(|| {
        let images = split.epoch(&plan, 0).batch(0).tensor();
        time_likelihood(engine.model(), images, steps, &device)
    });
    let counted = &wholes[warmup..];
    let between_ranks = BetweenRanks::measured(ranks, counted, &spent[warmup..])?;
    let seconds_per_step = median(counted);
    let [
        data_seconds,
        forward_seconds,
        backward_seconds,
        optimizer_seconds,
    ] = phases.map(|seconds| median(&seconds[warmup..]));
    Ok(StepTiming {
        seconds_per_step,
        fastest: counted.iter().copied().fold(f64::INFINITY, f64::min),
        slowest: counted.iter().copied().fold(0.0, f64::max),
        images_per_second: settings.batch_size as f64 / seconds_per_step,
        peak_bytes,
        pool_bytes,
        first_step_seconds: wholes[0],
        steps,
        capture_failure: engine.capture_failure().map(causes),
        unplanned_products: unplanned_products(&device),
        between_ranks,
        phases: (!is_behind).then_some(Phases {
            data_seconds,
            forward_seconds,
            backward_seconds,
            optimizer_seconds,
        }),
        processor_seconds_per_step: processors
            .map(|(after, before)| (after - before) / steps as f64),
        likelihood,
    })
}
