//! The CUDA device, tried before it is used.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use burn::prelude::*;
use burn::tensor::DType;
use cubecl::config::cache::CacheConfig;
use cubecl::config::environment::EnvironmentConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cudarc::driver::CudaContext;
use resnet_blocks::cube::toolchain;

use super::error::DeviceError;
use super::kernel_names::name_kernels;
use crate::device::cuda_requirements::CudaProblem;
use run_files::settings::DeviceChoice;

/// The CUDA device with this number, after one sum on it.
///
/// # Errors
/// Where driver, NVRTC, headers or the card itself are missing.
pub(crate) fn open(index: usize) -> Result<Device, DeviceError> {
    // What is missing is reported by panicking; the reason belongs in one line, without a backtrace.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    keep_kernels();
    let tried = find(index).and_then(|()| compute(index));
    set_hook(hook);
    tried.map_err(|problem| DeviceError::Unavailable {
        device: DeviceChoice::Cuda(index),
        reason: problem.reason(),
    })
}

/// Has compiled kernels outlive the process: in a folder of the user's, whatever the working directory is, and in a file of this toolkit
/// and driver. What a `cubecl.toml`, a `burn.toml` or the environment says otherwise stays as it is.
fn keep_kernels() {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    name_kernels(&mut config);
    config.compilation.cache = true;
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // CubeCL keeps a kernel before the driver has taken it, and finds it again by its card alone: what a newer toolkit compiled for an older driver
    // would be refused for ever, also after the toolkit was changed as the refusal advises.
    if config.environment.name == EnvironmentConfig::default().name
        && let Ok(Some(toolchain)) = catch_unwind(toolchain)
    {
        config.environment.name = toolchain;
    }
    // Only the first device of a process sets it.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// Whether there is a driver, and a card of that number.
fn find(index: usize) -> Result<(), CudaProblem> {
    let count = catch_unwind(CudaContext::device_count)
        .map_err(|panic| CudaProblem::NoDriver(text_of(&*panic)))?
        .map_err(|error| CudaProblem::NoDriver(error.to_string()))?;
    match usize::try_from(count).unwrap_or(0) {
        cards if index < cards => Ok(()),
        cards => Err(CudaProblem::NoCard { index, cards }),
    }
}

/// Whether kernels are compiled and compute.
fn compute(index: usize) -> Result<Device, CudaProblem> {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let device = Device::cuda(index);
        let sum = Tensor::<1>::ones([4], &device).exp().sum_dim(0);
        let sum = sum.try_into_scalar::<f32>();
        // Its text, and not how Rust shows it, has the causes.
        let sum = sum.unwrap_or_else(|error| panic!("{error}"));
        (device, sum)
    }));
    match tried {
        Ok((device, sum)) if (sum - 4.0 * std::f32::consts::E).abs() < 1e-3 => Ok(device),
        Ok((_, sum)) => Err(CudaProblem::WrongResult(sum)),
        Err(panic) => Err(CudaProblem::NoKernel(text_of(&*panic))),
    }
}

/// Compiles and runs a kernel in bfloat16, which needs a header of the toolkit that float32 does without. For a device that [`open`] has tried.
///
/// # Errors
/// Where that cannot be done.
pub(crate) fn try_bf16(index: usize, device: &Device) -> Result<(), DeviceError> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let values = Tensor::<1>::ones([4], device).cast(DType::BF16);
        let read = values.try_into_data();
        read.map(drop).unwrap_or_else(|error| panic!("{error}"));
    }));
    set_hook(hook);
    tried.map_err(|panic| DeviceError::Unavailable {
        device: DeviceChoice::Cuda(index),
        reason: CudaProblem::NoKernel(text_of(&*panic)).reason(),
    })
}

/// Why the card has no arithmetic in bfloat16; none where it has, or where there is no such card.
pub(crate) fn why_no_bf16(index: usize) -> Option<String> {
    let hook = take_hook();
    // Without a driver, which is found out where the device is opened.
    set_hook(Box::new(|_| {}));
    let context = catch_unwind(|| CudaContext::new(index));
    set_hook(hook);
    let context = context.ok()?.ok()?;
    let (major, minor) = context.compute_capability().ok()?;
    (major < 8).then(|| {
        format!("the card has compute capability {major}.{minor}, and bfloat16 begins with 8.0")
    })
}

/// The card's free memory in bytes, by the driver; none where it does not tell. For a device that [`open`] has tried.
pub(crate) fn free_bytes(index: usize) -> Option<u64> {
    let context = CudaContext::new(index).ok()?;
    let (free, _) = context.mem_get_info().ok()?;
    u64::try_from(free).ok()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it failed without a reason").to_owned()
}
