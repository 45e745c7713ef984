use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::load_run;
use crate::experiment::pictures::write_samples;
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(super) struct SampleFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R")]
    run_dir: PathBuf,
    /// The picture to write, a PNG
    #[arg(long, value_name = "F.png")]
    out: PathBuf,
    /// Rows of ten images
    #[arg(long, value_name = "N", default_value_t = 10)]
    rows: usize,
    /// Seed of the latents; default: the run's
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// flex, ndarray or cuda:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

pub(super) fn run(flags: &SampleFlags) -> Result<(), TrainerError> {
    let (settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    let seed = flags.seed.unwrap_or(settings.seed);
    write_samples(&model, flags.rows, seed, 1, &flags.out, &device)?;
    println!("{}", flags.out.display());
    Ok(())
}
