use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use cifar_loader::Split;
use run_files::run_folder::SUMMARY;
use run_files::run_record::{INTERPOLATIONS, LatentRecord, RunRecord, RunRecordError, TRAVERSALS};
use run_files::settings::{DeviceChoice, Sampler};
use run_files::wording::counted;
use serde::Serialize;

use super::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::latent_record::{LatentRecordOptions, USUAL_IMAGES, write_latent_record};
use crate::experiment::model::sampler;

#[derive(clap::Args)]
pub(super) struct LatentsFlags {
    /// Folder of a finished run, where latents.json, traversals.png and interpolations.png are written: its report shows them
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// Test images that mutual information is estimated from, at most 10000; the time grows with the square
    #[arg(long, value_name = "N", default_value_t = USUAL_IMAGES.get() as u32, value_parser = integer::<u32>(2..=10_000))]
    images: u32,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures the latents of a run and keeps what was found in its folder.
pub(super) fn measure(
    record: &RunRecord,
    images: NonZeroUsize,
    data_dir: Option<&Path>,
    device: DeviceChoice,
) -> Result<LatentRecord, TrainerError> {
    let run_dir = &record.run_dir;
    let (mut settings, model, device) = load_run(run_dir, device)?;
    if let Some(folder) = data_dir {
        settings.data_dir = Some(folder.to_owned());
    }
    // A summary that was handed over may tell of dimensions that the model does not have.
    let told = record.summary.latent.kl_per_dimension.len();
    if told != model.latent_dim() {
        return Err(RunRecordError::Malformed {
            path: run_dir.join(SUMMARY),
            reason: format!(
                "{told} latent dimensions, where the model has {}",
                model.latent_dim()
            ),
        }
        .into());
    }
    let data = data::load_for_run(&settings, run_dir)?;
    let splits = split(&settings, &data)?;
    let options = LatentRecordOptions {
        weights_of_epoch: record.summary.best.epoch,
        images,
        sampler: sampler(&settings),
        seed: settings.seed,
        statistics: &record.summary.latent,
    };
    let test = splits.get(Split::Test);
    Ok(write_latent_record(
        run_dir, &model, test, options, &device,
    )?)
}

pub(super) fn run(flags: &LatentsFlags) -> Result<(), TrainerError> {
    let record = RunRecord::read(&flags.run_dir)?;
    let images = NonZeroUsize::new(flags.images as usize).unwrap_or(USUAL_IMAGES);
    let data_dir = flags.data_dir.as_deref();
    let found = measure(&record, images, data_dir, flags.device)?;
    let statistics = &record.summary.latent;
    let warning = statistics.collapse_warning(record.summary.images.test, &record.settings);
    if flags.json {
        return print_json(&Latents {
            active_dimensions: statistics.active(),
            latent_dim: statistics.mean_variance.len(),
            kl_per_dimension: &statistics.kl_per_dimension,
            images: found.images,
            average_kl: found.average_kl,
            mutual_information: found.mutual_information,
            aggregated_posterior_kl: found.aggregated_posterior_kl,
            ceiling: found.ceiling,
            is_at_ceiling: found.is_at_ceiling(),
            sampler: record.settings.sampler,
            collapse: warning,
            traversed: &found.traversed,
            interpolated: &found.interpolated,
        });
    }
    let mut text = format!(
        "active dimensions       {:10}  of {}: the variance of the posterior's mean over the test images is above 0.01\n",
        statistics.active(),
        statistics.mean_variance.len()
    );
    text += &information(&found);
    for dimension in &found.traversed {
        let kl = statistics.kl_per_dimension.get(*dimension);
        text += &format!(
            "  dimension {dimension:4}        {:10.3}\n",
            kl.copied().unwrap_or(f64::NAN)
        );
    }
    if let Some(warning) = warning {
        text += &format!("warning: {warning}\n");
    }
    for name in [TRAVERSALS, INTERPOLATIONS] {
        text += &format!("{}\n", flags.run_dir.join(name).display());
    }
    print(&text)
}

/// What is printed for programs.
#[derive(Serialize)]
struct Latents<'a> {
    active_dimensions: usize,
    latent_dim: usize,
    kl_per_dimension: &'a [f64],
    images: u64,
    average_kl: f64,
    mutual_information: f64,
    aggregated_posterior_kl: f64,
    ceiling: f64,
    is_at_ceiling: bool,
    sampler: Sampler,
    collapse: Option<String>,
    traversed: &'a [usize],
    interpolated: &'a [[u32; 2]],
}

/// The divergence and its two terms, a line each.
fn information(found: &LatentRecord) -> String {
    let mut text = String::new();
    let mut line = |name: &str, nats: f64, bound: &str, what: &str| {
        text += &format!("{name:<23} {nats:10.3}{bound}  {what}\n");
    };
    let drawn = if found.is_of_posts_draws {
        ", of what the post's sampler draws"
    } else {
        ""
    };
    let of = format!(
        "nats an image, mean over {}{drawn}",
        counted(found.images, "test image")
    );
    line("KL to the prior", found.average_kl, "", &of);
    let (at_most, at_least, ceiling) = if found.is_at_ceiling() {
        let ceiling = format!(
            "the estimate is at its ceiling, log {} = {:.3}",
            found.images, found.ceiling
        );
        (" nats or less:", " nats or more:", ceiling)
    } else {
        let ceiling = format!(
            "what a latent tells about which image it is of; no estimate from {} exceeds {:.3}, its logarithm",
            counted(found.images, "image"),
            found.ceiling
        );
        ("", "", ceiling)
    };
    line(
        "mutual information",
        found.mutual_information,
        at_least,
        &ceiling,
    );
    line(
        "aggregated posterior KL",
        found.aggregated_posterior_kl,
        at_most,
        "how far all posteriors together are from the prior",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_at_its_ceiling_is_told_as_so_much_or_more() {
        let record = |mutual_information| LatentRecord {
            weights_of_epoch: 1,
            images: 500,
            average_kl: 20.0,
            mutual_information,
            aggregated_posterior_kl: 20.0 - mutual_information,
            ceiling: 500f64.ln(),
            is_of_posts_draws: false,
            traversed: Vec::new(),
            interpolated: Vec::new(),
        };
        let text = information(&record(6.207));
        for expected in [
            "6.207 nats or more:  the estimate is at its ceiling, log 500 = 6.215",
            "13.793 nats or less:",
            "mean over 500 test images\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let text = information(&record(2.0));
        assert!(!text.contains("or more") && text.contains("500 images exceeds 6.215"));
        let blog = LatentRecord {
            is_of_posts_draws: true,
            ..record(2.0)
        };
        assert!(information(&blog).contains("what the post's sampler draws"));
    }
}
