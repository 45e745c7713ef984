use std::path::{Path, PathBuf};

use run_files::settings::DeviceChoice;

use super::prior_flags::PriorFlags;
use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::print_place;
use crate::commands::path_argument::{check_folder, check_picture, path, result_path};
use crate::experiment::pictures::LatentDraw;
use crate::experiment::prior_samples::{PriorSamples, SampleForm, write_prior_samples};

/// Images at most: a NumPy array of them has 31 GB.
const MOST_IMAGES: usize = 10_000_000;

/// Here the flags of the prior are said at length.
const TEMPERATURE_HELP: &str = "Standard deviation of the latents, as a multiple of the prior's; below 1 gives more typical, less varied images";
const PRIOR_HELP: &str = "normal, or mixture:K: a mixture of K Gaussians fitted to the training images' posteriors and kept in the run folder";

#[derive(clap::Args)]
#[command(mut_arg("temperature", |flag| flag.help(TEMPERATURE_HELP)), mut_arg("prior", |flag| flag.help(PRIOR_HELP)))]
pub(in crate::commands) struct SampleFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// What to write: F.png a sheet, F.npy an array of bytes [count, 32, 32, 3], any other name a folder of numbered PNGs
    #[arg(long, value_name = "F", value_parser = result_path())]
    out: PathBuf,
    /// Rows of ten images
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = integer::<usize>(1..=MOST_IMAGES / 10))]
    rows: usize,
    /// Images, in place of rows: 50000 for a FID
    #[arg(long, value_name = "N", conflicts_with = "rows", value_parser = integer::<usize>(1..=MOST_IMAGES))]
    count: Option<usize>,
    /// The form, whatever the name of --out
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<SampleForm>,
    /// Seed of the latents; default: the run's
    #[arg(long, value_name = "S", value_parser = integer::<u64>(0..=usize::MAX))]
    seed: Option<u64>,
    #[command(flatten)]
    prior: PriorFlags,
    /// Folder of the data set that a mixture is fitted to; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

/// Refuses a place that cannot take the draws, before any is made.
fn check_out(out: &Path, form: SampleForm) -> Result<(), TrainerError> {
    let checked = check_picture(out).and_then(|()| match form {
        SampleForm::Images => check_is_free(out),
        SampleForm::Sheet | SampleForm::Array => check_folder(out),
    });
    checked.map_err(|reason| TrainerError::UnfittingFlag {
        flag: "--out",
        given: out.display().to_string(),
        reason,
    })
}

/// A folder for pictures is new or empty.
fn check_is_free(out: &Path) -> Result<(), String> {
    match std::fs::read_dir(out).map(|mut entries| entries.next()) {
        Ok(Some(_)) => Err(
            "the folder for the pictures is not empty; name another one, or a file that ends with .png or .npy"
                .to_owned(),
        ),
        // One that is not there is made; what else is wrong is for writing to say.
        Ok(None) | Err(_) => Ok(()),
    }
}

pub(in crate::commands) fn run(flags: &SampleFlags) -> Result<(), TrainerError> {
    flags.prior.check()?;
    let form = flags.form.unwrap_or_else(|| SampleForm::of(&flags.out));
    check_out(&flags.out, form)?;
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let seed = flags.seed.unwrap_or(settings.seed);
    let prior = flags
        .prior
        .latent_prior(&flags.run_dir, &settings, &model, &device)?;
    let draw = LatentDraw {
        prior: &prior,
        temperature: flags.prior.temperature,
        seed,
        sheet: 1,
    };
    let count = flags.count.unwrap_or(10 * flags.rows);
    let samples = PriorSamples::new(&model, count, draw, &device);
    write_prior_samples(samples, count, form, &flags.out)?;
    print_place(&flags.out)
}
