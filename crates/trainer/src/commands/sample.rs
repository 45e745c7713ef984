use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::load_run;
use crate::commands::output::print_line;
use crate::commands::path_argument::path;
use crate::experiment::prior_samples::{PriorSamples, SampleForm, write_prior_samples};
use run_files::settings::DeviceChoice;

/// Images at most: a NumPy array of them has 31 GB.
const MOST_IMAGES: u64 = 10_000_000;

#[derive(clap::Args)]
pub(super) struct SampleFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// What to write: F.png a sheet, F.npy an array of bytes [count, 32, 32, 3], any other name a folder of numbered PNGs
    #[arg(long, value_name = "F", value_parser = path())]
    out: PathBuf,
    /// Rows of ten images
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MOST_IMAGES / 10))]
    rows: u64,
    /// Images, in place of rows: 50000 for a FID
    #[arg(long, value_name = "N", conflicts_with = "rows", value_parser = clap::value_parser!(u64).range(1..=MOST_IMAGES))]
    count: Option<u64>,
    /// The form, whatever the name of --out
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<SampleForm>,
    /// Seed of the latents; default: the run's
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// flex (the CPU), ndarray or cuda:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

pub(super) fn run(flags: &SampleFlags) -> Result<(), TrainerError> {
    let (settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    let seed = flags.seed.unwrap_or(settings.seed);
    let count = flags.count.unwrap_or(10 * flags.rows) as usize;
    let form = flags.form.unwrap_or_else(|| SampleForm::of(&flags.out));
    let samples = PriorSamples::new(&model, count, seed, 1, &device);
    write_prior_samples(samples, count, form, &flags.out)?;
    print_line(flags.out.display())
}
