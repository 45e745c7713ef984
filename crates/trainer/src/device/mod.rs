//! The device a run computes on, chosen when the program runs.

pub(crate) mod auto_batch;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod cuda_requirements;
pub(crate) mod error;
pub(crate) mod failure_text;
pub(crate) mod kernel_names;
pub(crate) mod memory;
pub(crate) mod process_memory;
mod products;
pub(crate) mod step_memory;
mod step_probe;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use burn::tensor::Device;

use run_files::settings::{DeviceChoice, Precision};

pub use error::DeviceError;
pub(crate) use products::{matrix_products, matrix_products_line, unplanned_products};

/// The GPU that this process has opened first.
static OPENED: OnceLock<DeviceChoice> = OnceLock::new();

/// Does it. Where the memory of a GPU runs out or a kernel fails, the backend panics, and nothing in this process can use the device again: that is an error
/// then. Other panics, and those of processes that have opened no GPU, go on.
pub(crate) fn with_failures_as_errors<T, E: From<DeviceError>>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let panic = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => return done,
        Err(panic) => panic,
    };
    let Some(device) = OPENED.get() else {
        resume_unwind(panic);
    };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("it failed without a reason");
    Err(memory::device_failure(*device, text).into())
}

/// The device of that name, for products of that precision.
///
/// # Errors
/// Where the program was built without the backend's feature, the device is missing, or has no such arithmetic.
pub(crate) fn open_device_for(
    choice: DeviceChoice,
    precision: Precision,
) -> Result<Device, DeviceError> {
    let device = open_device(choice)?;
    let is_bf16 = precision == Precision::Bf16;
    match is_bf16.then(|| why_no_bf16(choice)).flatten() {
        Some(reason) => Err(DeviceError::NoBf16 {
            device: choice,
            reason,
        }),
        None => {
            #[cfg(feature = "cuda")]
            if let (Precision::Bf16, DeviceChoice::Cuda(index)) = (precision, choice) {
                cuda::try_bf16(index, &device)?;
            }
            Ok(device)
        }
    }
}

/// Why a device has no arithmetic in bfloat16; none where it has, or where nothing is known of it.
pub(crate) fn why_no_bf16(choice: DeviceChoice) -> Option<String> {
    match choice {
        DeviceChoice::Vulkan(_) => {
            Some("the language of its kernels, WGSL, has no bfloat16".to_owned())
        }
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(index) => cuda::why_no_bf16(index),
        _ => None,
    }
}

/// The device of that name.
///
/// # Errors
/// Where the program was built without the backend's feature.
pub fn open_device(choice: DeviceChoice) -> Result<Device, DeviceError> {
    if choice.gpu_index().is_some() {
        let _ = OPENED.set(choice);
    }
    match choice {
        #[cfg(feature = "flex")]
        DeviceChoice::Flex => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        DeviceChoice::Ndarray => {
            // The reference backend of the tests until Burn removes it.
            #[allow(deprecated)]
            let device = Device::ndarray();
            Ok(device)
        }
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(index) => crate::device::cuda::open(index),
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan(index) => crate::device::vulkan::open(index),
        #[allow(unreachable_patterns)] // Reachable wherever a feature is off.
        missing => Err(DeviceError::BackendNotCompiled {
            device: missing,
            feature: missing.feature(),
        }),
    }
}
