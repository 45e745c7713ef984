use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use cifar_loader::{IMAGE_BYTES, Split};
use run_files::metrics::Terms;
use serde::Serialize;
use vae_core::Likelihood;

use super::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::experiment::ExperimentError;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::evaluate::{EvaluationOptions, bits_per_dim, floor};
use crate::experiment::importance::{
    Estimate, ImportanceBound, ImportanceOptions, importance_bound,
};
use crate::experiment::model::sampler;
use crate::process::progress::{Progress, ProgressMode};
use crate::process::remaining_time::RemainingTime;
use crate::step::finished_model::evaluate_finished;
use run_files::settings::{DeviceChoice, Sampler, Settings};
use run_files::wording::{bits_per_dim as digits_of_bits, counted};

#[derive(clap::Args)]
pub(super) struct EvaluateFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// train, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// correct or blog; default: the run's
    #[arg(long, value_name = "SAMPLER")]
    sampler: Option<Sampler>,
    /// Score with another likelihood that reads the same output of the decoder: a model of bernoulli as
    /// renormalised-bernoulli, which gives bits per dimension; default: the run's
    #[arg(long, value_name = "NAME")]
    likelihood: Option<Likelihood>,
    /// Bound the log-likelihood with K draws per image too, 1 to 10000
    #[arg(long, value_name = "K", value_parser = integer::<u32>(1..=10_000))]
    importance_samples: Option<u32>,
    /// Only the first N images of the split; default: all
    #[arg(long, value_name = "N", value_parser = integer::<NonZeroUsize>(1..=50_000))]
    images: Option<NonZeroUsize>,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    /// Images at a time
    #[arg(long, value_name = "B", default_value = "100", value_parser = integer::<NonZeroUsize>(1..=50_000))]
    batch_size: NonZeroUsize,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &EvaluateFlags) -> Result<(), TrainerError> {
    let (mut settings, mut model, device) = load_run(&flags.run_dir, flags.device)?;
    let trained_with = model.likelihood();
    if let Some(likelihood) = flags.likelihood
        && !model.score_as(likelihood)
    {
        return Err(TrainerError::UnfittingFlag {
            flag: "--likelihood",
            given: likelihood.to_string(),
            reason: format!(
                "the run was trained with {trained_with}, whose output means something else"
            ),
        });
    }
    let likelihood = model.likelihood();
    settings.likelihood = likelihood;
    settings.sampler = flags.sampler.unwrap_or(settings.sampler);
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let data = data::load_for_run(&settings, &flags.run_dir)?;
    let splits = split(&settings, &data)?;
    let view = splits.get(flags.split);
    let view = &view.first(flags.images.map_or(view.len(), NonZeroUsize::get));
    let options = EvaluationOptions {
        batch_size: flags.batch_size,
        sampler: sampler(&settings),
        seed: settings.seed,
        draw: 0,
    };
    let floor = if likelihood == Likelihood::Bernoulli {
        floor(view)
    } else {
        f64::NAN
    };
    let result = evaluate_finished(&model, view, floor, options, &device);
    if !result.loss.is_finite() {
        return Err(ExperimentError::ScoreNotFinite {
            run_dir: flags.run_dir.clone(),
        }
        .into());
    }
    // Of bounds by draws, which know what they are drawn from.
    let bits = |nats: f64| {
        likelihood
            .is_over_levels()
            .then(|| vae_measures::bits_per_dim(nats, IMAGE_BYTES))
    };
    let importance = flags
        .importance_samples
        .and_then(|samples| NonZeroUsize::new(samples as usize))
        .map(|samples| {
            let options = ImportanceOptions {
                samples,
                batch_size: flags.batch_size,
                sampler: options.sampler,
                seed: settings.seed,
            };
            let mut progress = Progress::new(ProgressMode::Plain);
            let mut remaining = RemainingTime::of(view.len() as u64);
            importance_bound(&model, view, options, &device, |done| {
                if let Some(line) = remaining.line(done, Instant::now()) {
                    progress.notice(&line);
                }
            })
        });
    let is_finite =
        |bound: &ImportanceBound| bound.elbo.nats.is_finite() && bound.bound.nats.is_finite();
    if importance.as_ref().is_some_and(|bound| !is_finite(bound)) {
        return Err(ExperimentError::ScoreNotFinite {
            run_dir: flags.run_dir.clone(),
        }
        .into());
    }
    // JSON has an `elbo` whatever the likelihood.
    let notes = notes(&settings, importance.is_some() || flags.json);
    if flags.json {
        return print_json(&Evaluation {
            split: flags.split.to_string(),
            images: view.len(),
            sampler: settings.sampler,
            data_set: data.name(),
            data_source: data.source().to_string(),
            data_hash: data.fingerprint().to_string(),
            likelihood,
            terms: result,
            elbo: (settings.sampler == Sampler::Correct).then_some(-result.cross_entropy_plus_kl()),
            bits_per_dim: bits_per_dim(&settings, &result),
            importance: importance.map(|bound| ImportanceScores {
                samples: bound.samples,
                images: bound.images,
                elbo: EstimatedBound::of(&bound.elbo, bits),
                bound: EstimatedBound::of(&bound.bound, bits),
            }),
            notes,
        });
    }
    let mut text = format!(
        "{} split of {}, {}, {} sampler, nats an image\nloss           {:10.3}\n",
        flags.split,
        data.name(),
        counted(view.len() as u64, "image"),
        settings.sampler,
        result.loss
    );
    text += &if likelihood == Likelihood::Bernoulli {
        format!(
            "cross-entropy  {:10.3}  ({:.3} above the pixels' entropy)\n",
            result.cross_entropy, result.excess
        )
    } else {
        format!(
            "-log p(x | z)  {:10.3}  ({likelihood})\n",
            result.cross_entropy
        )
    };
    text += &format!("KL             {:10.3}\n", result.kl);
    text += &format!("L2 penalties   {:10.3}\n", result.l2);
    if let Some(bits) = bits_per_dim(&settings, &result) {
        text += &format!(
            "ELBO           {:10.3}  {} bits/dim\n",
            -result.cross_entropy_plus_kl(),
            digits_of_bits(bits)
        );
    }
    if let Some(bound) = importance {
        text += &format!(
            "with {} an image (mean over images, standard error):\n",
            counted(bound.samples as u64, "draw")
        );
        text += &estimate_line("ELBO", &bound.elbo, bits);
        text += &estimate_line(&format!("IW-{}", bound.samples), &bound.bound, bits);
    }
    for note in notes {
        text += &format!("note: {note}\n");
    }
    print(&text)
}

/// What a reader of these scores has to know besides.
fn notes(settings: &Settings, names_bounds: bool) -> Vec<&'static str> {
    let of_grey_levels = !settings.likelihood.is_over_levels();
    let plain = (of_grey_levels && names_bounds).then_some(
        "bernoulli is no distribution over grey levels: an ELBO or IW here is of its cross-entropy and compares with no other; \
         `--likelihood renormalised-bernoulli` scores the same model as a distribution.",
    );
    settings.why_no_bound().into_iter().chain(plain).collect()
}

/// What is printed for programs.
#[derive(Serialize)]
struct Evaluation<'a> {
    split: String,
    images: usize,
    sampler: Sampler,
    data_set: &'a str,
    data_source: String,
    data_hash: String,
    likelihood: Likelihood,
    terms: Terms,
    elbo: Option<f64>,
    bits_per_dim: Option<f64>,
    importance: Option<ImportanceScores>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

#[derive(Serialize)]
struct ImportanceScores {
    samples: usize,
    images: u64,
    elbo: EstimatedBound,
    bound: EstimatedBound,
}

/// A bound in nats, with its negative in bits per dimension where the likelihood allows them.
#[derive(Serialize)]
struct EstimatedBound {
    nats: f64,
    standard_error: Option<f64>,
    bits_per_dim: Option<f64>,
    bits_per_dim_standard_error: Option<f64>,
}

impl EstimatedBound {
    fn of(estimate: &Estimate, bits: impl Fn(f64) -> Option<f64>) -> Self {
        Self {
            nats: estimate.nats,
            standard_error: estimate.standard_error,
            bits_per_dim: bits(-estimate.nats),
            bits_per_dim_standard_error: estimate.standard_error.and_then(bits),
        }
    }
}

fn estimate_line(name: &str, estimate: &Estimate, bits: impl Fn(f64) -> Option<f64>) -> String {
    let error = |error: Option<f64>, digits: usize| {
        error.map_or_else(String::new, |error| format!(" +- {error:.digits$}"))
    };
    let of_bits = bits(-estimate.nats).map_or_else(String::new, |value| {
        format!(
            "  {value:.4}{} bits/dim",
            error(estimate.standard_error.and_then(&bits), 4)
        )
    });
    format!(
        "{name:<14} {:10.3}{}{of_bits}\n",
        estimate.nats,
        error(estimate.standard_error, 3)
    )
}
