//! Whether a model can fit into this machine's memory at all.

use super::error::DeviceError;
use super::failure_text::causes;
use crate::device::process_memory;
use crate::device::step_memory::{StepSize, form_and_place, predict};
use crate::experiment::model::ModelConfig;
use run_files::settings::{DeviceChoice, Settings};

/// Refuses a training on the CPU that needs more than all memory that this process may have, before the system ends it halfway.
///
/// # Errors
/// [`DeviceError::OutOfMemory`].
pub(crate) fn check(settings: &Settings, config: &ModelConfig) -> Result<(), DeviceError> {
    let memory = process_memory::memory().filter(|_| !settings.device.are_gpus());
    let Some(total) = memory.map(|memory| memory.total) else {
        return Ok(());
    };
    let needed = least_bytes(settings, config);
    if needed > total {
        return Err(DeviceError::OutOfMemory {
            device: settings.device.main(),
            reason: format!(
                "a step of this model with {} images at a time takes at least {}, and this process may have {}",
                images_at_a_time(settings),
                run_files::disk::amount(needed),
                run_files::disk::amount(total)
            ),
        });
    }
    Ok(())
}

/// Less than a step can do with: half of the tensors that the prediction counts.
fn least_bytes(settings: &Settings, config: &ModelConfig) -> u64 {
    let step = predict(
        config,
        form_and_place(settings),
        StepSize::of(settings, settings.batch_size),
    );
    (step.activations + step.in_flight) / 2
}

fn images_at_a_time(settings: &Settings) -> usize {
    let whole = settings.batch_size;
    settings
        .micro_batch_size
        .map_or(whole, |most| most.min(whole))
}

/// The free memory of the device that `settings` name, in bytes; none where the system does not say.
pub(crate) fn free_bytes(device: DeviceChoice) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(index) => crate::device::cuda::free_bytes(index),
        #[cfg(not(feature = "cuda"))]
        DeviceChoice::Cuda(_) => None,
        // Vulkan tells how much there is, not how much is free.
        DeviceChoice::Vulkan(_) => None,
        DeviceChoice::Flex | DeviceChoice::Ndarray => {
            process_memory::memory().map(|memory| memory.available)
        }
    }
}

/// The error that a backend's panic stands for: Burn reports the failures of a device by panicking.
pub(crate) fn device_failure(device: DeviceChoice, message: &str) -> DeviceError {
    let reason = causes(message);
    if let Some(bytes) = refused_buffer(&reason) {
        return DeviceError::NoSuchBuffer { device, bytes };
    }
    let lower = message.to_lowercase();
    // The driver's name for it, Rust's and CubeCL's.
    let is_memory = [
        "out of memory",
        "out_of_memory",
        "outofmemory",
        "out of device memory",
    ]
    .iter()
    .any(|sign| lower.contains(sign));
    if is_memory {
        DeviceError::OutOfMemory { device, reason }
    } else {
        DeviceError::Lost { device, reason }
    }
}

/// The bytes of a tensor that no buffer of the device takes, by CubeCL's report.
fn refused_buffer(reason: &str) -> Option<u64> {
    let (_, after) = reason.split_once("can't allocate buffer of size: ")?;
    let digits = after.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::model::model_config;

    #[test]
    fn a_step_larger_than_the_machine_is_refused_and_a_usual_one_is_not() {
        let usual = Settings::default();
        let config = model_config(&usual).expect("a model");
        check(&usual, &config).expect("24 GB at most");
        let huge = Settings {
            batch_size: 50_000,
            width: 16.0,
            ..usual
        };
        let config = model_config(&huge).expect("a model");
        if cfg!(target_os = "linux") {
            let error = check(&huge, &config).expect_err("petabytes");
            assert_eq!(error.exit_code(), 31);
            assert!(error.to_string().contains("--batch-size"), "{error}");
        }
    }

    #[test]
    fn panics_of_a_device_are_told_apart() {
        let code = |message| device_failure(DeviceChoice::Cuda(0), message).exit_code();
        assert_eq!(
            code(
                "called `Result::unwrap()`: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"
            ),
            31
        );
        assert_eq!(code("CUDA_ERROR_ILLEGAL_ADDRESS"), 32);
        let of_step = "the device's step failed: Several failures at once\nCaused by:\n  An IO error happened\nCaused by:\n  out of device \
             memory allocating 209715200 bytes\nNo backtrace available";
        assert_eq!(code(of_step), 31);
        let message = device_failure(DeviceChoice::Cuda(0), of_step).to_string();
        assert!(message.contains("allocating 209715200 bytes"), "{message}");
        // By cubecl-runtime 0.11.3, of a tensor above the 128 MiB that lavapipe binds.
        let too_large = "Error while reading data: use `try_into_data` instead to catch the error at runtime: An error happened during execution\nCaused \
             by:\n  An IO error happened\nCaused by:\n  can't allocate buffer of size: 209715200\nNo backtrace available";
        assert_eq!(code(too_large), 31);
        let message = device_failure(DeviceChoice::Vulkan(0), too_large).to_string();
        assert!(message.contains("--batch-size"), "{message}");
    }
}
