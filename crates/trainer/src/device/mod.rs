//! The device a run computes on, chosen when the program runs.

pub(crate) mod auto_batch;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod cuda_requirements;
pub(crate) mod error;
pub(crate) mod memory;
pub(crate) mod step_memory;

use burn::tensor::Device;

use run_files::settings::DeviceChoice;

pub use error::DeviceError;

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
        #[allow(unreachable_patterns)] // Reachable wherever a feature is off.
        missing => Err(DeviceError::BackendNotCompiled {
            device: missing,
            feature: missing.feature(),
        }),
    }
}
