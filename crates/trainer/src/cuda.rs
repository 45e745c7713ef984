//! The CUDA device, tried before it is used.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use burn::prelude::*;

use crate::error::TrainerError;
use crate::settings::DeviceChoice;

/// What a machine needs besides this program.
const NEEDED: &str = "CUDA needs NVIDIA's driver, and the toolkit's NVRTC library and headers (set CUDA_PATH where they \
                      are not in /usr/local/cuda; GTX 10 cards need a CUDA 12 toolkit); `--device flex` needs nothing";

/// The CUDA device with this number, after one sum on it.
///
/// # Errors
/// Where driver, NVRTC, headers or the card itself are missing.
pub(crate) fn open(index: usize) -> Result<Device, TrainerError> {
    // The backend reports what is missing by panicking; the reason belongs in one line, without a backtrace.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let device = Device::cuda(index);
        let sum = Tensor::<1>::ones([4], &device)
            .exp()
            .sum()
            .into_scalar::<f32>();
        (device, sum)
    }));
    set_hook(hook);
    let unavailable = |reason: String| TrainerError::DeviceUnavailable {
        device: DeviceChoice::Cuda(index),
        reason: format!("{reason}; {NEEDED}"),
    };
    match tried {
        Ok((device, sum)) if (sum - 4.0 * std::f32::consts::E).abs() < 1e-3 => Ok(device),
        Ok((_, sum)) => Err(unavailable(format!("4 e came out as {sum}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(unavailable(
                first_line(text.unwrap_or("it failed without a reason")).to_owned(),
            ))
        }
    }
}

/// The card's free memory in bytes, by the driver; none where it does not tell. For a device that [`open`] has tried.
pub(crate) fn free_bytes(index: usize) -> Option<u64> {
    let context = cudarc::driver::CudaContext::new(index).ok()?;
    let (free, _) = context.mem_get_info().ok()?;
    u64::try_from(free).ok()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}
