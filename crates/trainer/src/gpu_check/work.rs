//! What a part does, in the process that was started for it.

use burn::prelude::*;

use super::determinism::{compare_trainings, trained};
use super::error::GpuCheckError;
use super::parity;
use super::part::{Part, PartOptions, StepCase};
use super::products::time_products;
use super::row::{DeviceRow, PytorchRow, Row, StepRow};
use super::start::time_start;
use crate::device::memory::free_bytes;
use crate::device::step_memory::{StepSize, form_and_place, predict};
use crate::device::{matrix_products, open_device};
use crate::experiment::model::model_config;
use crate::timing::TimingError;
use crate::timing::pytorch_timing::{PytorchForm, threads, time_pytorch};
use crate::timing::step_timing::{TimingOptions, time_steps_watched};
use run_files::settings::{DeviceChoice, Precision, Settings, TrainFlags, resolve};

/// Operations of a multiply-accumulate in a training step: a product and a sum, once forward and twice backward.
const OPERATIONS_PER_MULTIPLY_ACCUMULATE: u64 = 6;

/// The forms of PyTorch that are timed.
const FORMS: [PytorchForm; 4] = [
    PytorchForm::ChannelsLast,
    PytorchForm::Compiled,
    PytorchForm::Replayed,
    PytorchForm::Contiguous,
];

/// Makes a part; every row goes to `on_row` as soon as it is known.
///
/// # Errors
/// Where the device cannot be opened or fails.
pub(super) fn work(
    part: Part,
    options: &PartOptions,
    on_row: &mut dyn FnMut(Row),
) -> Result<(), GpuCheckError> {
    let is_cuda = matches!(options.device, DeviceChoice::Cuda(_));
    on_row(Row::stage("opening the device".to_owned(), true));
    match part {
        Part::Device => {
            let device = open_device(options.device)?;
            on_row(Row::Device(device_row(options.device, &device)));
        }
        Part::Parity(precision) => {
            let device = open_device(options.device)?;
            let precision = match precision {
                Precision::F32 => vae_core::Precision::F32,
                Precision::Bf16 => vae_core::Precision::Bf16,
            };
            parity::check(&device, precision, is_cuda, on_row);
        }
        Part::Determinism(precision) => {
            let device = open_device(options.device)?;
            let settings = settings(trained_case(precision, options), options)?;
            compare_trainings(&settings, options, &device, on_row)?;
        }
        Part::Trained(precision) => {
            let device = open_device(options.device)?;
            let settings = settings(trained_case(precision, options), options)?;
            let row = trained(&settings, &device, false, on_row)?;
            on_row(Row::Trained(row));
        }
        Part::Step(case) => {
            let device = open_device(options.device)?;
            let row = time(case, Form::Usual, options, &device, on_row)?;
            on_row(Row::Step(row));
        }
        Part::Launched(case) => {
            let device = open_device(options.device)?;
            let row = time(case, Form::Launched, options, &device, on_row)?;
            on_row(Row::Step(row));
        }
        Part::Start => {
            for is_cold in [true, false] {
                let kernels = if is_cold {
                    "no kept kernels"
                } else {
                    "kept kernels"
                };
                // What the first process compiles, the second one finds.
                let stage = format!("a process with {kernels}");
                on_row(Row::stage(stage.clone(), is_cold));
                let row = time_start(is_cold, options, &mut |kernel| {
                    let text = format!("{stage}, the last kernel it began to compile: {kernel}");
                    on_row(Row::stage(text, true));
                })?;
                on_row(Row::Start(row));
            }
        }
        Part::Layers(case) => {
            let device = open_device(options.device)?;
            let row = time(case, Form::BurnsLayers, options, &device, on_row)?;
            on_row(Row::Step(row));
        }
        // Not a device of this program: PyTorch has it to itself.
        Part::Pytorch(case) => {
            for form in FORMS {
                let compiles = matches!(form, PytorchForm::Compiled | PytorchForm::Replayed);
                on_row(Row::stage(format!("PyTorch, {form}"), compiles));
                on_row(Row::Pytorch(time_in_pytorch(case, options, form)?));
            }
        }
        Part::Products(precision) => {
            let device = open_device(options.device)?;
            on_row(Row::stage("the first products".to_owned(), true));
            let mut ready = || on_row(Row::stage("multiplying".to_owned(), false));
            let on = (options.device, &device);
            let row = time_products(precision, options.scale, on, &mut ready)?;
            on_row(Row::Product(row));
        }
    }
    Ok(())
}

/// What is trained to see whether it is the same each time.
fn trained_case(precision: Precision, options: &PartOptions) -> StepCase {
    let [small, ..] = options.scale.batches;
    StepCase {
        depth: 28,
        batch: small,
        precision,
    }
}

fn device_row(device: DeviceChoice, opened: &Device) -> DeviceRow {
    DeviceRow {
        matrix_products: matrix_products(opened),
        name: card(device).unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH)),
        free_bytes: free_bytes(device),
        threads: threads(),
    }
}

/// The name of the card, by the driver.
#[cfg(feature = "cuda")]
fn card(device: DeviceChoice) -> Option<String> {
    let DeviceChoice::Cuda(index) = device else {
        return None;
    };
    let context = cudarc::driver::CudaContext::new(index).ok()?;
    context.name().ok()
}

#[cfg(not(feature = "cuda"))]
fn card(_: DeviceChoice) -> Option<String> {
    None
}

/// The settings of a step, and no others of the environment.
pub(super) fn settings(case: StepCase, options: &PartOptions) -> Result<Settings, GpuCheckError> {
    let flags = TrainFlags {
        depth: Some(case.depth.to_string()),
        width: Some(options.scale.width.to_string()),
        latent_dim: Some(options.scale.latent_dim.to_string()),
        batch_size: Some(case.batch.to_string()),
        device: Some(options.device.to_string()),
        precision: Some(case.precision.to_string()),
        ..TrainFlags::default()
    };
    Ok(resolve(&flags, &|_| None)?.settings)
}

/// How a step is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As training makes it.
    Usual,
    Launched,
    BurnsLayers,
}

fn timing(form: Form, options: &PartOptions) -> TimingOptions {
    TimingOptions {
        warmup: options.scale.warmup,
        steps: options.scale.steps,
        is_evaluation: false,
        is_plain: form == Form::BurnsLayers,
        is_launched: form == Form::Launched,
    }
}

fn time(
    case: StepCase,
    form: Form,
    options: &PartOptions,
    device: &Device,
    on_row: &mut dyn FnMut(Row),
) -> Result<StepRow, GpuCheckError> {
    let is_plain = form == Form::BurnsLayers;
    let settings = settings(case, options)?;
    let config = model_config(&settings)?;
    let predicted = predict(
        &config,
        form_and_place(&settings),
        StepSize::of(&settings, case.batch),
    );
    let timing = timing(form, options);
    let all = timing.warmup + timing.steps;
    let mut stage = |done: usize| {
        let text = format!("step {} of {all}", done + 1);
        // The first step compiles the kernels of all.
        on_row(Row::stage(text, done == 0));
    };
    stage(0);
    let mut on_step = |done: usize| stage(done);
    let timing = time_steps_watched(&settings, timing, device, &mut on_step)?;
    let peak_bytes = match options.device {
        DeviceChoice::Cuda(_) => timing.pool_bytes,
        _ => timing.peak_bytes,
    };
    let operations = OPERATIONS_PER_MULTIPLY_ACCUMULATE
        * config.cost().multiply_accumulates()
        * case.batch as u64;
    Ok(StepRow {
        depth: case.depth,
        batch: case.batch,
        precision: case.precision,
        is_plain,
        is_launched: form == Form::Launched || timing.capture_failure.is_some(),
        capture_failure: timing.capture_failure,
        unplanned_products: timing.unplanned_products,
        seconds_per_step: timing.seconds_per_step,
        fastest: timing.fastest,
        slowest: timing.slowest,
        steps: timing.steps,
        warmup: options.scale.warmup,
        first_step_seconds: timing.first_step_seconds,
        images_per_second: timing.images_per_second,
        peak_bytes,
        // The pool has neither the program nor the images of all of CIFAR-10.
        predicted_bytes: (!is_plain).then(|| match options.device {
            DeviceChoice::Cuda(_) => predicted.total() - predicted.program - predicted.images,
            _ => predicted.total(),
        }),
        operations,
        operations_per_second: operations as f64 / timing.seconds_per_step,
    })
}

/// A PyTorch that does not run is a row with the reason; other forms may.
fn time_in_pytorch(
    case: StepCase,
    options: &PartOptions,
    form: PytorchForm,
) -> Result<PytorchRow, GpuCheckError> {
    let settings = settings(case, options)?;
    let timed = match &options.python {
        Some(python) => time_pytorch(
            python,
            &settings,
            timing(Form::Usual, options),
            form,
            threads(),
        ),
        None => Err(TimingError::Pytorch {
            reason: "`--python` names none".to_owned(),
        }),
    };
    let (found, reason) = match timed {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(PytorchRow {
        depth: case.depth,
        batch: case.batch,
        precision: case.precision,
        form: form.to_string(),
        seconds_per_step: found.as_ref().map(|found| found.seconds_per_step),
        peak_bytes: found.as_ref().map(|found| found.peak_bytes),
        version: found.map(|found| found.version),
        reason,
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::super::part::Scale;
    use super::*;

    #[test]
    fn a_part_says_where_it_stands_and_what_of_it_compiles() {
        let options = PartOptions {
            device: DeviceChoice::Flex,
            scale: Scale::TINY,
            out: std::path::PathBuf::new(),
            python: None,
        };
        let case = StepCase {
            depth: 28,
            batch: 2,
            precision: Precision::F32,
        };
        // Each golden case has kernels of its own; trainings and steps have those of their first step, and products those of the first.
        for (part, compiling, others) in [
            (Part::Parity(Precision::F32), 13, 0),
            (Part::Trained(Precision::F32), 1, 4),
            (Part::Step(case), 1, 3),
            (Part::Products(Precision::F32), 1, 1),
        ] {
            let mut stages = Vec::new();
            let mut on_row = |row| {
                if let Row::Stage(stage) = row {
                    stages.push(stage);
                }
            };
            work(part, &options, &mut on_row).expect("a processor");
            let compiled = stages.iter().filter(|stage| stage.compiles).count();
            // The first one is that the device is opened.
            let found = [compiled - 1, stages.len() - compiled];
            assert_eq!(found, [compiling, others], "{part}: {stages:?}");
        }
    }
}
