//! From the start of a process to the end of its first training step.

use std::time::Instant;

use super::child::watch;
use super::error::GpuCheckError;
use super::part::PartOptions;
use super::row::StartRow;
use crate::device::kernel_names::compiled_kernel;
use crate::process::own_program::this_program;
use run_files::settings::{DeviceChoice, Precision};

/// Where compiled kernels are kept, and where the driver keeps what it makes of them: a folder of the check's own, which the first of two processes
/// finds empty.
const CACHE: &str = "XDG_CACHE_HOME";
const CACHE_OF_DRIVER: &str = "CUDA_CACHE_PATH";

/// The one that GPUs are trained in.
fn precision(device: DeviceChoice) -> Precision {
    match device {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(index) if crate::device::cuda::why_no_bf16(index).is_none() => {
            Precision::Bf16
        }
        _ => Precision::F32,
    }
}

/// Starts this program anew for one step at the smallest batch, in bfloat16 where the device has it; `on_kernel` is told which kernel it compiles.
///
/// # Errors
/// Where the process cannot be started or fails.
pub(super) fn time_start(
    is_cold: bool,
    options: &PartOptions,
    on_kernel: &mut dyn FnMut(&str),
) -> Result<StartRow, GpuCheckError> {
    // A relative folder of such a name counts for nothing.
    let out = std::path::absolute(&options.out)
        .map_err(run_files::run_folder::file_error(&options.out))?;
    let cache = out.join("kernel-cache");
    if is_cold && cache.exists() {
        std::fs::remove_dir_all(&cache).map_err(run_files::run_folder::file_error(&cache))?;
    }
    std::fs::create_dir_all(&cache).map_err(run_files::run_folder::file_error(&cache))?;
    let scale = options.scale;
    let began = Instant::now();
    let mut command = this_program();
    command
        .args([
            "bench-step",
            "--depth",
            "28",
            "--steps",
            "1",
            "--warmup",
            "0",
        ])
        .args(["--width", &scale.width.to_string()])
        .args(["--latent-dim", &scale.latent_dim.to_string()])
        .args(["--batch-size", &scale.batches[0].to_string()])
        .args(["--device", &options.device.to_string()])
        .args(["--precision", &precision(options.device).to_string()])
        .env(CACHE, &cache)
        .env(CACHE_OF_DRIVER, cache.join("driver"));
    watch(command, &mut |line| {
        if let Some(kernel) = compiled_kernel(line) {
            on_kernel(kernel);
        }
    })?;
    let seconds = began.elapsed().as_secs_f64();
    // The driver has a folder of its own there.
    let kept = cache.join("cubecl");
    let is_kept = std::fs::read_dir(&kept).is_ok_and(|mut files| files.next().is_some());
    if matches!(options.device, DeviceChoice::Cuda(_)) && !is_kept {
        return Err(GpuCheckError::Start {
            reason: format!(
                "it kept its compiled kernels elsewhere than in {}, where they may have been before: a `cubecl.toml`, a `burn.toml` or \
                 CUBECL_ENVIRONMENT names another folder; take that away for the check",
                cache.display()
            ),
        });
    }
    Ok(StartRow { is_cold, seconds })
}
