//! A GPU of any maker through wgpu, tried before it is used.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use burn::prelude::*;
use run_files::settings::DeviceChoice;

use super::error::DeviceError;

/// The device of that number, after one sum on it: 0 is the one that the system prefers, which may be the processors behind a driver of theirs; above it
/// the discrete GPUs are counted.
///
/// # Errors
/// Where there is none, or it computes what is wrong.
pub(crate) fn open(index: usize) -> Result<Device, DeviceError> {
    let kind = match index {
        0 => DeviceKind::DefaultDevice,
        _ => DeviceKind::DiscreteGpu(index),
    };
    // What is missing is reported by panicking; the reason belongs in one line, without a backtrace.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let device = Device::wgpu(kind);
        let ones = Tensor::<1>::ones([4], &device).exp();
        (ones.sum_dim(0).into_scalar::<f32>(), device)
    }));
    set_hook(hook);
    let unavailable = |reason: String| DeviceError::Unavailable {
        device: DeviceChoice::Vulkan(index),
        reason,
    };
    match tried {
        Ok((sum, device)) if (sum - 4.0 * std::f32::consts::E).abs() < 1e-3 => Ok(device),
        Ok((sum, _)) => Err(unavailable(format!("it computed {sum} for four times e"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            let text = text.and_then(|text| text.lines().next());
            let reason = text.unwrap_or("it failed without a reason");
            Err(unavailable(format!(
                "{reason}; a driver for Vulkan is needed (on Debian `mesa-vulkan-drivers`; `vulkaninfo --summary` lists the devices)"
            )))
        }
    }
}
