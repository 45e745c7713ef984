use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::path_argument::{path, result_path};
use crate::gpu_check::{CheckOptions, check, run_part};
use crate::process::lifeline;
use run_files::settings::DeviceChoice;

/// Seconds: a card is checked within five minutes.
const DEFAULT_BUDGET: f64 = 290.0;

#[derive(clap::Args)]
pub(super) struct GpuCheckFlags {
    /// Folder of results.json and results.md
    #[arg(long, value_name = "DIR", value_parser = result_path())]
    out: PathBuf,
    /// A GPU, cuda:N or vulkan:N; or flex, where everything is made at a tiny size to see that it works
    #[arg(long, value_name = "X", default_value = "cuda:0")]
    device: DeviceChoice,
    /// Seconds for everything, compiling included; what does not fit is listed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = DEFAULT_BUDGET,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: GpuCheckFlags,
    }

    #[test]
    fn a_check_takes_less_than_five_minutes_where_nothing_else_is_said() {
        let line = Line::parse_from(["gpu-check", "--out", "results"]);
        assert!(line.flags.budget < 300.0, "{} s", line.flags.budget);
    }
}
