//! The largest micro-batch that fits.

use super::error::DeviceError;
use super::step_probe::MeasuredMemory;
use crate::device::memory::free_bytes;
use crate::device::step_memory::{
    CIFAR_BYTES, Form, Place, StepSize, evaluation_bytes, form_and_place, predict,
};
use crate::experiment::model::{ModelConfig, model_config};
use run_files::disk::amount;
use run_files::memory_limit::MemoryLimit;
use run_files::settings::Settings;

/// Fewer images than this at a time are too few to measure steps of a half and a quarter of them.
const FEWEST_MEASURED: usize = 16;

/// Chooses the micro-batch of settings: the batch in the fewest equal micro-batches that fit the device's free memory, or `limit`. Gives
/// none where the whole batch fits.
///
/// What fits is predicted first. Where that is not the whole batch, steps of a half and of a quarter of what the prediction
/// allows are measured, each in a process of its own, and a line through both decides. The prediction alone decides for fewer than
/// 16 images at a time, on GPUs, whose memory no process reads, for one of several `ranks`, which would all measure at once, and
/// where a measured step fails.
///
/// # Errors
/// Where not even two images fit; where the free memory is unknown and there is no limit; where the settings fit no model.
pub(crate) fn choose(
    settings: &Settings,
    limit: Option<MemoryLimit>,
    ranks: usize,
) -> Result<Option<usize>, DeviceError> {
    choose_by(settings, limit, |settings, sizes| {
        (ranks == 1)
            .then(|| MeasuredMemory::of_steps(settings, sizes))
            .flatten()
    })
}

fn choose_by(
    settings: &Settings,
    limit: Option<MemoryLimit>,
    measure: impl FnOnce(&Settings, [usize; 2]) -> Option<MeasuredMemory>,
) -> Result<Option<usize>, DeviceError> {
    let config = model_config(settings)?;
    let device = settings.device.main();
    let available = match limit {
        Some(MemoryLimit(bytes)) => bytes,
        None => {
            let all = std::iter::once(&device).chain(settings.device.others());
            let least = all.map(|device| free_bytes(*device)).min().flatten();
            least.ok_or(DeviceError::UnknownMemory { device })?
        }
    };
    let count = settings.device.count();
    // Images that are normalised together.
    let batch = settings.batch_size.div_ceil(settings.shards.max(count));
    // Processors have one memory between them.
    let is_host = matches!(form_and_place(settings).1, Place::Host { .. });
    let available = if is_host {
        available / count as u64
    } else {
        available
    };
    let nothing_fits = |way: &str, needed: u64| DeviceError::NothingFits {
        device,
        reason: format!(
            "a step with two images at a time takes {} by {way}, and {} are free",
            amount(needed),
            amount(available)
        ),
    };
    let predicted = |most| predicted(settings, &config, batch, most);
    let fits = largest(batch, available, predicted)
        .ok_or_else(|| nothing_fits("prediction", predicted(2)))?;
    let memory = (is_host && (FEWEST_MEASURED..batch).contains(&fits))
        .then(|| measure(settings, [fits / 4, fits / 2]))
        .flatten();
    let fits = match memory {
        Some(memory) => {
            // On a busy machine two peaks can lie on a line that is much too flat. The prediction has not been seen a fifth too high.
            let measured =
                |most| measured(settings, &config, &memory, most).max(predicted(most) / 5 * 4);
            largest(batch, available, measured)
                .ok_or_else(|| nothing_fits("measurement", measured(2)))?
        }
        None => fits,
    };
    Ok((fits < batch).then_some(fits))
}

/// The largest of the batch's equal micro-batches, for which `needed` gives bytes, that fits.
fn largest(batch: usize, available: u64, needed: impl Fn(usize) -> u64) -> Option<usize> {
    // Equal ones: every other size would only leave a shorter last micro-batch.
    let mut sizes = (1..=batch.div_ceil(2)).map(|count| batch.div_ceil(count).max(2));
    sizes.find(|most| needed(*most) <= available)
}

/// What a run needs with at most `most` images at a time, in bytes, by the sizes of its tensors.
fn predicted(settings: &Settings, config: &ModelConfig, batch: usize, most: usize) -> u64 {
    let size = StepSize {
        micro_batch: Some(most),
        ..StepSize::of(settings, batch)
    };
    let (form, place) = form_and_place(settings);
    let step = predict(config, (form, place), size);
    let of_step = step.activations + step.in_flight;
    let tensors = match form {
        // Scored in the buffers of training.
        Form::OnDevice(_) => of_step,
        _ => of_step.max(evaluation_bytes(config)),
    };
    let others = step.total() - step.activations - step.in_flight - step.images;
    tensors + others + data_bytes(settings, place)
}

/// The same by measured steps, and what they do not hold: the weights' average, the other sums in the tree of more than two
/// micro-batches, and evaluation in place of a step.
fn measured(
    settings: &Settings,
    config: &ModelConfig,
    memory: &MeasuredMemory,
    most: usize,
) -> u64 {
    let micro_batches = settings.batch_size.div_ceil(settings.device.count() * most);
    let sums = micro_batches.next_power_of_two().ilog2().saturating_sub(1);
    let copies = u64::from(sums) + u64::from(settings.ema.is_some());
    let step = memory
        .bytes(most)
        .max(memory.bytes(0) + evaluation_bytes(config));
    let place = form_and_place(settings).1;
    step + copies * 4 * config.num_params() + data_bytes(settings, place)
}

/// The data set lies where the batches are made: in the host's memory, or in the GPU's. What is inside the program counts with it.
fn data_bytes(settings: &Settings, place: Place) -> u64 {
    match place {
        Place::Gpu { has_images: false } => 0,
        _ if settings.embedded_data().is_some() => 0,
        _ => CIFAR_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_files::settings::{DeviceChoice, Preset};

    fn settings() -> Settings {
        Settings {
            depth: 28,
            width: 0.25,
            intermediate_dim: 256,
            latent_dim: 64,
            batch_size: 100,
            ..Settings::default()
        }
    }

    #[test]
    fn without_a_measurement_the_prediction_chooses_the_largest_that_fits() {
        let settings = settings();
        let config = model_config(&settings).expect("a model");
        let needs = |most| predicted(&settings, &config, 100, most);
        let choose = |bytes| choose_by(&settings, Some(MemoryLimit(bytes)), |_, _| None);
        assert_eq!(choose(needs(100)).expect("fits"), None);
        assert_eq!(choose(needs(100) - 1).expect("fits"), Some(50));
        assert_eq!(choose(needs(34)).expect("fits"), Some(34));
        assert_eq!(choose(needs(34) - 1).expect("fits"), Some(25));
        let error = choose(1 << 20).expect_err("a megabyte");
        assert_eq!(error.exit_code(), 31);
        assert!(!error.to_string().contains("--auto-batch"), "{error}");
    }

    #[test]
    fn measured_steps_decide_where_the_whole_batch_is_not_predicted_to_fit() {
        let settings = settings();
        let config = model_config(&settings).expect("a model");
        let limit = predicted(&settings, &config, 100, 34);
        let choose = |line: MeasuredMemory, limit| {
            let mut asked = None;
            let chosen = choose_by(&settings, Some(MemoryLimit(limit)), |_, sizes| {
                asked = Some(sizes);
                Some(line)
            });
            (chosen, asked)
        };
        // By measurement an image takes so much that 50 of them, and the data set, are just within the limit.
        let each = (limit - CIFAR_BYTES) / 50;
        let line = MeasuredMemory::through((0, 0), (1, each));
        let (chosen, asked) = choose(line, limit);
        assert_eq!((chosen.expect("fits"), asked), (Some(50), Some([8, 17])));
        let more = MeasuredMemory::through((0, 0), (1, each + each / 50));
        assert_eq!(choose(more, limit).0.expect("fits"), Some(34));
        let nothing = MeasuredMemory::through((0, limit), (1, limit));
        let error = choose(nothing, limit)
            .0
            .expect_err("the data set is too much");
        assert!(error.to_string().contains("by measurement"), "{error}");
        // A line that says nothing of an image is not believed.
        let flat = MeasuredMemory::through((1, 1 << 20), (2, 1 << 20));
        let just = predicted(&settings, &config, 100, 100) / 5 * 4;
        assert_eq!(choose(flat, just - 1).0.expect("fits"), Some(50));
        assert_eq!(choose(flat, just).0.expect("fits"), None);
        // Nothing is measured where the whole batch is predicted to fit.
        let whole = predicted(&settings, &config, 100, 100);
        let (chosen, asked) = choose(more, whole);
        assert_eq!((chosen.expect("fits"), asked), (None, None));
    }

    #[test]
    fn the_data_set_counts_where_the_batches_are_made() {
        let bytes = |device: &str, preset| {
            let settings = Settings {
                device: device.parse().expect("a device"),
                preset,
                ..settings()
            };
            data_bytes(&settings, form_and_place(&settings).1)
        };
        for (device, expected) in [
            ("flex", CIFAR_BYTES),
            ("cuda:0", CIFAR_BYTES),
            ("vulkan:0", 0),
        ] {
            assert_eq!(bytes(device, None), expected, "{device}");
            // Its images are inside the program.
            assert_eq!(bytes(device, Some(Preset::Demo)), 0, "{device}");
        }
    }

    #[test]
    fn a_card_that_nobody_can_ask_needs_a_limit() {
        if cfg!(feature = "cuda") {
            return;
        }
        let settings = Settings {
            device: DeviceChoice::Cuda(0).into(),
            ..settings()
        };
        let error = choose(&settings, None, 1).expect_err("no driver in this program");
        assert!(error.to_string().contains("--memory-limit"), "{error}");
        choose(&settings, Some(MemoryLimit(8 << 30)), 1).expect("fits");
    }
}
