use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use cifar_loader::{IMAGE_BYTES, Split};
use vae_core::Likelihood;

mod printed;

use super::error::TrainerError;
use crate::commands::finished_run::{load_run, trained_weights};
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::device::failure_text::launched;
use crate::device::{matrix_products_line, unplanned_products};
use crate::experiment::ExperimentError;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::evaluate::{EvaluationOptions, floor};
use crate::experiment::importance::{ImportanceBound, ImportanceOptions};
use crate::experiment::model::{Model, sampler};
use crate::process::progress::{Progress, ProgressMode};
use crate::process::remaining_time::RemainingTime;
use crate::step::finished_model::{evaluate_finished, importance_of_finished};
use printed::{EstimatedBound, Evaluation, ImportanceScores, Score, estimate_line};
use run_files::settings::{DeviceChoice, Sampler, Settings};
use run_files::wording::counted;

/// Where a run's folder was copied without its checkpoints, or they are damaged.
const NO_TRAINED_WEIGHTS: &str = "the score is that of the weights' moving average; the weights themselves are not scored, because no intact checkpoint of \
     the run has them beside that average.";

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
    let mut told = Progress::new(ProgressMode::Plain);
    if let Some(line) = matrix_products_line(flags.device, &device) {
        told.notice(&line);
    }
    let mut score = |model: &Model| {
        let scored = evaluate_finished(model, view, floor, options, &device);
        if let Some(reason) = scored.capture_failure {
            told.notice_once(&launched("batches", &reason));
        }
        if let Some(refused) = unplanned_products(&device) {
            told.notice_once_of("unplanned products", &refused);
        }
        Score::new(&settings, scored.terms)
    };
    let scored = score(&model);
    if !scored.is_finite() {
        return Err(ExperimentError::ScoreNotFinite {
            run_dir: flags.run_dir.clone(),
        }
        .into());
    }
    let has_average = settings.ema.is_some();
    let trained = has_average
        .then(|| trained_weights(&flags.run_dir, &model))
        .transpose()?
        .flatten();
    let without_average = trained.as_ref().map(score);
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
                // A draw of a batch needs the same buffers as a pass.
                batch_size: model.at_a_time(flags.batch_size, &device),
                sampler: options.sampler,
                seed: settings.seed,
            };
            let mut remaining = RemainingTime::of(view.len() as u64);
            let each = |done| {
                if let Some(line) = remaining.line(done, Instant::now()) {
                    told.notice(&line);
                }
            };
            let (bound, capture_failure) =
                importance_of_finished(&model, view, options, &device, each);
            if let Some(reason) = capture_failure {
                told.notice_once(&launched("draws", &reason));
            }
            bound
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
    let mut notes = notes(&settings, importance.is_some() || flags.json);
    if has_average && without_average.is_none() {
        notes.push(NO_TRAINED_WEIGHTS);
    }
    if flags.json {
        return print_json(&Evaluation {
            split: flags.split.to_string(),
            images: view.len(),
            sampler: settings.sampler,
            data_set: data.name(),
            data_source: data.source().to_string(),
            data_hash: data.fingerprint().to_string(),
            likelihood,
            scored,
            without_average,
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
        "{} split of {}, {}, {} sampler, nats an image\n",
        flags.split,
        data.name(),
        counted(view.len() as u64, "image"),
        settings.sampler,
    );
    text += &scored.lines(likelihood);
    if let Some(score) = &without_average {
        text += "the weights themselves, without their average:\n";
        text += &score.lines(likelihood);
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
