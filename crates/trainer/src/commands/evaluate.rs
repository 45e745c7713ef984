use std::num::NonZeroUsize;
use std::path::PathBuf;

use cifar_loader::Split;
use serde_json::json;

use super::error::TrainerError;
use crate::commands::load_run;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::evaluate::{EvaluationOptions, evaluate, floor};
use crate::experiment::model::sampler;
use crate::process::progress::{Progress, ProgressMode};
use run_files::run_record::terms;
use run_files::settings::{DeviceChoice, Sampler};

#[derive(clap::Args)]
pub(super) struct EvaluateFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R")]
    run_dir: PathBuf,
    /// train, valid or test
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    split: Split,
    /// correct or blog; default: the run's
    #[arg(long, value_name = "SAMPLER")]
    sampler: Option<Sampler>,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D")]
    data_dir: Option<PathBuf>,
    /// Images at a time
    #[arg(long, value_name = "B", default_value = "100")]
    batch_size: NonZeroUsize,
    /// flex, ndarray or cuda:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &EvaluateFlags) -> Result<(), TrainerError> {
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    settings.sampler = flags.sampler.unwrap_or(settings.sampler);
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let data = data::load(&settings, &mut Progress::new(ProgressMode::Plain))?;
    let splits = split(&settings, &data)?;
    let view = splits.get(flags.split);
    let options = EvaluationOptions {
        batch_size: flags.batch_size,
        sampler: sampler(&settings),
        seed: settings.seed,
        draw: 0,
    };
    let result = evaluate(&model, view, floor(view), options, &device);
    if flags.json {
        let result = json!({
            "split": flags.split.to_string(),
            "images": view.len(),
            "sampler": settings.sampler.to_string(),
            "terms": terms(&result),
        });
        println!("{result:#}");
    } else {
        println!(
            "{} split, {} images, {} sampler, nats an image",
            flags.split,
            view.len(),
            settings.sampler
        );
        println!("loss           {:10.3}", result.loss);
        println!(
            "cross-entropy  {:10.3}  ({:.3} above the pixels' entropy)",
            result.cross_entropy, result.excess
        );
        println!("KL             {:10.3}", result.kl);
        println!("L2 penalties   {:10.3}", result.l2);
    }
    Ok(())
}
