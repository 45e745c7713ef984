use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::path_argument::{path, result_path};
use crate::gpu_check::{CheckOptions, check, run_part};
use crate::process::lifeline;
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(super) struct GpuCheckFlags {
    /// Folder of results.json and results.md
    #[arg(long, value_name = "DIR", value_parser = result_path())]
    out: PathBuf,
    /// A GPU, cuda:N or vulkan:N; or flex, where everything is made at a tiny size to see that it works
    #[arg(long, value_name = "X", default_value = "cuda:0")]
    device: DeviceChoice,
    /// Seconds for everything; what does not fit is listed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 480.0,
        allow_negative_numbers = true
    )]
    budget: f64,
    /// Only this part, or all of a kind by its first word (parity, step, pytorch, ...); other results there are kept
    #[arg(long, value_name = "P")]
    part: Option<String>,
    /// A Python with PyTorch, which the same steps are timed in
    #[arg(long, value_name = "PATH", value_parser = path())]
    python: Option<PathBuf>,
    /// Makes the part in this process and prints its rows: what the command starts for every part
    #[arg(long, value_name = "P", hide = true)]
    run_part: Option<String>,
}

pub(super) fn run(flags: &GpuCheckFlags) -> Result<(), TrainerError> {
    let options = CheckOptions {
        device: flags.device,
        out: flags.out.clone(),
        budget_seconds: flags.budget,
        part: flags.part.clone(),
        python: flags.python.clone(),
    };
    match &flags.run_part {
        Some(part) => {
            lifeline::hold(crate::gpu_check::end_own_processes);
            run_part(part, &options)?;
        }
        None => check(&options)?,
    }
    Ok(())
}
