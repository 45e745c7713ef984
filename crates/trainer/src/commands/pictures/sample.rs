use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::experiment::model::Model;
use burn::tensor::Device;
use run_files::atomic_file::write_atomically;
use run_files::checkpoint::ManifestEntry;
use run_files::file_operations::read_at_most;
use run_files::run_folder::{MODEL, file_error};
use run_files::settings::{DeviceChoice, Settings};
use run_files::wording::counted;
use vae_core::Sampler;

use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::print_place;
use crate::commands::path_argument::{check_folder, check_picture, path, result_path};
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::model::sampler;
use crate::experiment::pictures::LatentDraw;
use crate::experiment::prior::{
    LARGEST_PRIOR, LEAST_KL, LatentPrior, MixtureOptions, MixturePrior,
};
use crate::experiment::prior_samples::{PriorSamples, SampleForm, write_prior_samples};
use crate::process::progress::{Progress, ProgressMode};

/// Images at most: a NumPy array of them has 31 GB.
const MOST_IMAGES: usize = 10_000_000;

#[derive(clap::Args)]
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
    /// Standard deviation of the latents, as a multiple of the prior's; below 1 gives more typical, less varied images
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    temperature: f64,
    /// normal, or mixture:K: a mixture of K Gaussians fitted to the training images' posteriors and kept in the run folder
    #[arg(long, value_name = "P", default_value = "normal", value_parser = parse_prior)]
    prior: PriorChoice,
    /// Folder of the data set that a mixture is fitted to; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

/// What latents are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PriorChoice {
    Normal,
    Mixture { components: usize },
}

impl fmt::Display for PriorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Mixture { components } => write!(f, "mixture:{components}"),
        }
    }
}

/// Components that a mixture may have at most.
const MOST_COMPONENTS: usize = 1000;
/// Images encoded at a time.
const BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

pub(super) fn parse_prior(text: &str) -> Result<PriorChoice, String> {
    if text == "normal" {
        return Ok(PriorChoice::Normal);
    }
    let components = text
        .strip_prefix("mixture:")
        .and_then(|count| count.parse().ok());
    match components {
        Some(components) if (1..=MOST_COMPONENTS).contains(&components) => {
            Ok(PriorChoice::Mixture { components })
        }
        _ => Err(format!(
            "normal, or mixture:K with K from 1 to {MOST_COMPONENTS}"
        )),
    }
}

/// The prior that was asked for: a mixture from its file, or fitted and written there.
pub(super) fn prior(
    choice: PriorChoice,
    run_dir: &Path,
    settings: &Settings,
    model: &Model,
    device: &Device,
) -> Result<LatentPrior, TrainerError> {
    let PriorChoice::Mixture { components } = choice else {
        return Ok(LatentPrior::StandardNormal);
    };
    let path = MixturePrior::path(run_dir, components);
    let weights_sha256 = weights_sha256(run_dir)?;
    let mut progress = Progress::new(ProgressMode::Plain);
    if path.exists() {
        let bytes = read_at_most(&path, LARGEST_PRIOR).map_err(file_error(&path))?;
        let prior = MixturePrior::from_json(&path, &bytes, settings.latent_dim)?;
        let is_of_posts_draws = sampler(settings) == Sampler::Blog;
        let other = match (
            prior.weights_sha256 == weights_sha256,
            prior.is_of_posts_draws == is_of_posts_draws,
        ) {
            (true, true) => return Ok(LatentPrior::Mixture(prior)),
            (false, _) => "weights than the run has now",
            (true, false) => "draws than those of the run's sampler",
        };
        progress.notice(&format!(
            "{} was fitted to other {other}: it is fitted again",
            path.display()
        ));
    }
    let data = data::load_for_run(settings, run_dir)?;
    let splits = split(settings, &data)?;
    let fitted = MixturePrior {
        weights_sha256,
        ..MixturePrior::fit(
            model,
            &splits.train,
            MixtureOptions {
                components,
                sampler: sampler(settings),
                batch_size: BATCH,
                seed: settings.seed,
            },
            device,
        )?
    };
    write_atomically(&path, &fitted.to_json()).map_err(file_error(&path))?;
    progress.notice(&format!(
        "fitted {} over the {} with more than {LEAST_KL} nats of KL; kept in {}",
        counted(components as u64, "Gaussian"),
        counted(fitted.dimensions.len() as u64, "dimension"),
        path.display()
    ));
    Ok(LatentPrior::Mixture(fitted))
}

/// The hash of the weights that a finished run exported.
fn weights_sha256(run_dir: &Path) -> Result<String, TrainerError> {
    let path = run_dir.join(MODEL);
    let bytes = read_at_most(&path, u64::MAX).map_err(file_error(&path))?;
    Ok(ManifestEntry::of(MODEL, &bytes).sha256)
}

/// A temperature that a picture can be made at.
pub(super) fn check_temperature(temperature: f64) -> Result<(), TrainerError> {
    if (0.0..=10.0).contains(&temperature) {
        return Ok(());
    }
    Err(TrainerError::UnfittingFlag {
        flag: "--temperature",
        given: temperature.to_string(),
        reason: "a temperature is a number from 0 to 10; 0.7 to 1 is usual".to_owned(),
    })
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
    check_temperature(flags.temperature)?;
    let form = flags.form.unwrap_or_else(|| SampleForm::of(&flags.out));
    check_out(&flags.out, form)?;
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let seed = flags.seed.unwrap_or(settings.seed);
    let prior = prior(flags.prior, &flags.run_dir, &settings, &model, &device)?;
    let draw = LatentDraw {
        prior: &prior,
        temperature: flags.temperature,
        seed,
        sheet: 1,
    };
    let count = flags.count.unwrap_or(10 * flags.rows);
    let samples = PriorSamples::new(&model, count, draw, &device);
    write_prior_samples(samples, count, form, &flags.out)?;
    print_place(&flags.out)
}
