use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use cifar_loader::Split;
use inception_features::{Inception, PROTOCOL, PUBLISHED_WEIGHTS, Weights};
use run_files::settings::DeviceChoice;
use run_files::wording::counted;
use serde::Serialize;

use super::prior_flags::PriorFlags;
use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::experiment::ExperimentError;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::fid::{FEWEST_IMAGES, FidOptions, fid};
use crate::experiment::pictures::LatentDraw;
use crate::process::progress::{Progress, ProgressMode};
use crate::process::remaining_time::RemainingTime;

#[derive(clap::Args)]
pub(in crate::commands) struct FidFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// Weights of the FID's Inception network: pt_inception-2015-12-05-6726825d.pth of pytorch-fid's release fid_weights, or
    /// safetensors with the same names
    #[arg(long, value_name = "FILE", value_parser = path())]
    weights: PathBuf,
    /// Images drawn, and at most as many of the split, from 2048 on: papers have 10000 or 50000
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_most::<10_000_000>)]
    images: NonZeroUsize,
    /// train, valid or test: the real images
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// The split's reconstructions too (rFID)
    #[arg(long)]
    reconstructions: bool,
    #[command(flatten)]
    prior: PriorFlags,
    /// Seed of the latents; default: the run's
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    /// Images at a time in the Inception network
    #[arg(long, value_name = "B", default_value = "25", value_parser = at_most::<10_000>)]
    batch_size: NonZeroUsize,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A number from 1 whose bytes of images can be counted.
fn at_most<const MOST: usize>(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok();
    number
        .filter(|number| number.get() <= MOST)
        .ok_or_else(|| format!("a number from 1 to {MOST}"))
}

pub(in crate::commands) fn run(flags: &FidFlags) -> Result<(), TrainerError> {
    flags.prior.check()?;
    let too_few = |flag, given: String, images: usize| TrainerError::UnfittingFlag {
        flag,
        given,
        reason: format!(
            "a FID of {images} images says nothing: the covariance of 2048 features needs at least {FEWEST_IMAGES}, and papers \
             use 10,000 or 50,000"
        ),
    };
    if flags.images.get() < FEWEST_IMAGES {
        return Err(too_few(
            "--images",
            flags.images.to_string(),
            flags.images.get(),
        ));
    }
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let data = data::load_for_run(&settings, &flags.run_dir)?;
    let splits = split(&settings, &data)?;
    let view = splits.get(flags.split);
    if view.len() < FEWEST_IMAGES {
        return Err(too_few("--split", flags.split.to_string(), view.len()));
    }
    let weights = Weights::read(&flags.weights).map_err(ExperimentError::from)?;
    let inception = Inception::new(&weights, &device).map_err(ExperimentError::from)?;
    let prior_of_draws = flags
        .prior
        .latent_prior(&flags.run_dir, &settings, &model, &device)?;
    let seed = flags.seed.unwrap_or(settings.seed);
    let options = FidOptions {
        images: flags.images,
        batch_size: flags.batch_size,
        draw: LatentDraw {
            prior: &prior_of_draws,
            temperature: flags.prior.temperature,
            seed,
            sheet: 1,
        },
        has_reconstructions: flags.reconstructions,
    };
    let mut progress = Progress::new(ProgressMode::Plain);
    if !weights.are_published() {
        progress.notice(&format!(
            "{} is not the file that published FIDs were computed with ({PUBLISHED_WEIGHTS}): this one compares with none of them",
            flags.weights.display()
        ));
    }
    let real = view.len().min(flags.images.get());
    let whole = flags.images.get() + real * if flags.reconstructions { 2 } else { 1 };
    let mut remaining = RemainingTime::of(whole as u64);
    let found = fid(&model, &inception, view, options, &device, |done| {
        if let Some(line) = remaining.line(done as u64, Instant::now()) {
            progress.notice(&line);
        }
    });
    if !found.is_finite() {
        return Err(ExperimentError::ScoreNotFinite {
            run_dir: flags.run_dir.clone(),
        }
        .into());
    }
    let of_prior = flags.prior.prior.to_string();
    if flags.json {
        return print_json(&FidScores {
            fid: found.drawn,
            reconstruction_fid: found.reconstructed,
            drawn: found.num_drawn,
            real: found.num_real,
            split: flags.split.to_string(),
            data_set: data.name(),
            data_hash: data.fingerprint().to_string(),
            prior: of_prior,
            temperature: flags.prior.temperature,
            seed,
            protocol: PROTOCOL,
            weights_sha256: weights.sha256(),
            weights_are_published: weights.are_published(),
        });
    }
    let mut text = format!("FID             {:10.3}  ", found.drawn);
    text += &format!(
        "{} drawn from the {of_prior} prior at temperature {} with seed {seed}\n",
        counted(found.num_drawn as u64, "image"),
        flags.prior.temperature
    );
    if let Some(distance) = found.reconstructed {
        text += &format!("rFID            {distance:10.3}  reconstructions of the same images\n");
    }
    text += &format!(
        "real images     {:10}  {} split of {}\n",
        found.num_real,
        flags.split,
        data.name()
    );
    text += &format!("protocol        {PROTOCOL}\n");
    text += &format!("weights         SHA-256 {}\n", weights.sha256());
    print(&text)
}

/// What is printed for programs.
#[derive(Serialize)]
struct FidScores<'a> {
    fid: f64,
    reconstruction_fid: Option<f64>,
    drawn: usize,
    real: usize,
    split: String,
    data_set: &'a str,
    data_hash: String,
    prior: String,
    temperature: f64,
    seed: u64,
    protocol: &'static str,
    weights_sha256: &'a str,
    weights_are_published: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test has the Inception network's weights, so that nothing else sees these keys.
    #[test]
    fn scores_for_programs_keep_their_form() {
        let scores = FidScores {
            fid: 81.25,
            reconstruction_fid: None,
            drawn: 2048,
            real: 2049,
            split: "test".to_owned(),
            data_set: "cifar-10",
            data_hash: "ab".to_owned(),
            prior: "normal".to_owned(),
            temperature: 1.0,
            seed: 7,
            protocol: "p",
            weights_sha256: "cd",
            weights_are_published: true,
        };
        let text = serde_json::to_string(&scores).expect("names and numbers");
        assert_eq!(
            text,
            "{\"fid\":81.25,\"reconstruction_fid\":null,\"drawn\":2048,\"real\":2049,\"split\":\"test\",\"data_set\":\"cifar-10\",\
             \"data_hash\":\"ab\",\"prior\":\"normal\",\"temperature\":1.0,\"seed\":7,\"protocol\":\"p\",\"weights_sha256\":\"cd\",\
             \"weights_are_published\":true}"
        );
    }
}
