//! The device a run computes on, chosen when the program runs.

pub(crate) mod auto_batch;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod cuda_requirements;
pub(crate) mod error;
pub(crate) mod memory;
pub(crate) mod process_memory;
pub(crate) mod step_memory;
mod step_probe;
#[cfg(feature = "vulkan")]
mod vulkan;

use burn::tensor::Device;

use run_files::settings::{DeviceChoice, Precision};

pub use error::DeviceError;

/// The device of that name, for products of that precision.
///
/// # Errors
/// Where the program was built without the backend's feature, the device is missing, or has no such arithmetic.
pub(crate) fn open_device_for(
    choice: DeviceChoice,
    precision: Precision,
) -> Result<Device, DeviceError> {
    let device = open_device(choice)?;
    let reason = match (precision, choice) {
        (Precision::Bf16, DeviceChoice::Vulkan(_)) => {
            Some("the language of its kernels, WGSL, has no bfloat16".to_owned())
        }
        #[cfg(feature = "cuda")]
        (Precision::Bf16, DeviceChoice::Cuda(index)) => cuda::why_no_bf16(index),
        _ => None,
    };
    match reason {
        Some(reason) => Err(DeviceError::NoBf16 {
            device: choice,
            reason,
        }),
        None => Ok(device),
    }
}

/// What multiplies matrices on a device; none on processors.
pub(crate) fn matrix_products(device: &Device) -> Option<String> {
    #[cfg(feature = "cube")]
    return resnet_blocks::cube::products_of(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}

/// The device of that name.
///
/// # Errors
/// Where the program was built without the backend's feature.
pub fn open_device(choice: DeviceChoice) -> Result<Device, DeviceError> {
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
