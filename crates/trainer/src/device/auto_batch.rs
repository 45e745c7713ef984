//! The largest micro-batch that fits.

use vae_core::VaeConfig;

use super::error::DeviceError;
use crate::device::memory::free_bytes;
use crate::device::step_memory::{
    CIFAR_BYTES, Place, StepSize, evaluation_bytes, form_and_place, predict,
};
use crate::experiment::model::model_config;
use run_files::disk::amount;
use run_files::memory_limit::MemoryLimit;
use run_files::settings::Settings;

/// Chooses the micro-batch of settings: the batch in the fewest equal parts whose predicted memory fits the device's free
/// memory, or `limit`. Gives none where the whole batch fits.
///
/// # Errors
/// Where not even two images fit; where the free memory is unknown and there is no limit; where the settings fit no model.
pub(crate) fn choose(
    settings: &Settings,
    limit: Option<MemoryLimit>,
) -> Result<Option<usize>, DeviceError> {
    let config = model_config(settings)?;
    let device = settings.device.main();
    let available = match limit {
        Some(MemoryLimit(bytes)) => bytes,
        None => free_bytes(device).ok_or(DeviceError::UnknownMemory { device })?,
    };
    let place = form_and_place(settings);
    let count = settings.device.count();
    let batch = settings.batch_size.div_ceil(count);
    // Processors have one memory between them.
    let available = match place.1 {
        Place::Host { .. } => available / count as u64,
        Place::Cuda => available,
    };
    let fits = largest_that_fits(settings, &config, batch, available);
    fits.map(|most| (most < batch).then_some(most))
        .ok_or_else(|| DeviceError::NothingFits {
            device,
            reason: format!(
                "a step with two images at a time takes {} by prediction, and {} are free",
                amount(needed(settings, &config, batch, 2)),
                amount(available)
            ),
        })
}

/// What a run needs with at most `most` images at a time, in bytes.
fn needed(settings: &Settings, config: &VaeConfig, batch: usize, most: usize) -> u64 {
    let place = form_and_place(settings);
    let size = StepSize {
        micro_batch: Some(most),
        ..StepSize::of(settings, batch)
    };
    let step = predict(config, place, size);
    let tensors = (step.activations + step.in_flight).max(evaluation_bytes(config));
    let others = step.total() - step.activations - step.in_flight;
    // The data set lies where the batches are made: in the host's memory, or in the GPU's.
    tensors + others + CIFAR_BYTES
}

fn largest_that_fits(
    settings: &Settings,
    config: &VaeConfig,
    batch: usize,
    available: u64,
) -> Option<usize> {
    // Equal parts: every other size would only leave a shorter last part.
    let sizes = (1..=batch.div_ceil(2)).map(|parts| batch.div_ceil(parts).max(2));
    let mut sizes = sizes;
    sizes.find(|most| needed(settings, config, batch, *most) <= available)
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_files::settings::DeviceChoice;

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
    fn the_choice_is_the_largest_that_fits() {
        let settings = settings();
        let config = model_config(&settings).expect("a model");
        let needs = |most| needed(&settings, &config, 100, most);
        let choose = |bytes| choose(&settings, Some(MemoryLimit(bytes)));
        assert_eq!(choose(needs(100)).expect("fits"), None);
        assert_eq!(choose(needs(100) - 1).expect("fits"), Some(50));
        assert_eq!(choose(needs(34)).expect("fits"), Some(34));
        assert_eq!(choose(needs(34) - 1).expect("fits"), Some(25));
        let error = choose(1 << 20).expect_err("a megabyte");
        assert_eq!(error.exit_code(), 31);
        assert!(!error.to_string().contains("--auto-batch"), "{error}");
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
        let error = choose(&settings, None).expect_err("no driver in this program");
        assert!(error.to_string().contains("--memory-limit"), "{error}");
        choose(&settings, Some(MemoryLimit(8 << 30))).expect("fits");
    }
}
