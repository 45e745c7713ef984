//! The flags that say what latents are drawn from, which several commands have.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Device;
use run_files::atomic_file::write_atomically;
use run_files::checkpoint::ManifestEntry;
use run_files::file_operations::read_at_most;
use run_files::run_folder::{MODEL, file_error};
use run_files::settings::Settings;
use run_files::wording::counted;
use vae_core::Sampler;

use crate::commands::error::TrainerError;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::model::{Model, sampler};
use crate::experiment::prior::{
    LARGEST_PRIOR, LEAST_KL, LatentPrior, MixtureOptions, MixturePrior,
};
use crate::process::progress::{Progress, ProgressMode};

#[derive(clap::Args)]
pub(super) struct PriorFlags {
    /// Standard deviation of the latents, as a multiple of the prior's
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub(super) temperature: f64,
    /// normal, or mixture:K
    #[arg(long, value_name = "P", default_value = "normal", value_parser = parse_prior)]
    pub(super) prior: PriorChoice,
}

impl PriorFlags {
    /// Refuses a temperature that no picture can be made at.
    pub(super) fn check(&self) -> Result<(), TrainerError> {
        if (0.0..=10.0).contains(&self.temperature) {
            return Ok(());
        }
        Err(TrainerError::UnfittingFlag {
            flag: "--temperature",
            given: self.temperature.to_string(),
            reason: "a temperature is a number from 0 to 10; 0.7 to 1 is usual".to_owned(),
        })
    }

    /// The prior that was asked for: a mixture from its file, or fitted and written there.
    pub(super) fn latent_prior(
        &self,
        run_dir: &Path,
        settings: &Settings,
        model: &Model,
        device: &Device,
    ) -> Result<LatentPrior, TrainerError> {
        let PriorChoice::Mixture { components } = self.prior else {
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

fn parse_prior(text: &str) -> Result<PriorChoice, String> {
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

/// The hash of the weights that a finished run exported.
fn weights_sha256(run_dir: &Path) -> Result<String, TrainerError> {
    let path = run_dir.join(MODEL);
    let bytes = read_at_most(&path, u64::MAX).map_err(file_error(&path))?;
    Ok(ManifestEntry::of(MODEL, &bytes).sha256)
}
