use std::num::NonZeroUsize;
use std::path::PathBuf;

use cifar_loader::Split;
use run_files::settings::DeviceChoice;
use run_files::wording::counted;
use serde::Serialize;

use super::prior_flags::PriorFlags;
use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::sample_statistics::{StatisticsOptions, sample_statistics};

#[derive(clap::Args)]
pub(in crate::commands) struct SampleStatisticsFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// Images drawn, and test images compared with, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = integer::<u32>(1..=1_000_000))]
    images: u32,
    /// Drawn and test images whose nearest training image is looked for, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = integer::<u32>(1..=10_000))]
    neighbours: u32,
    #[command(flatten)]
    prior: PriorFlags,
    /// Seed of the latents; default: the run's
    #[arg(long, value_name = "S", value_parser = integer::<u64>(0..=usize::MAX))]
    seed: Option<u64>,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Images at a time.
const BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

pub(in crate::commands) fn run(flags: &SampleStatisticsFlags) -> Result<(), TrainerError> {
    flags.prior.check()?;
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let prior = flags
        .prior
        .latent_prior(&flags.run_dir, &settings, &model, &device)?;
    let data = data::load_for_run(&settings, &flags.run_dir)?;
    let splits = split(&settings, &data)?;
    let options = StatisticsOptions {
        images: NonZeroUsize::new(flags.images as usize).expect("the flag is at least 1"),
        neighbours: flags.neighbours as usize,
        batch_size: BATCH,
        prior: &prior,
        temperature: flags.prior.temperature,
        seed: flags.seed.unwrap_or(settings.seed),
    };
    let (test, train) = (splits.get(Split::Test), splits.get(Split::Train));
    let found = sample_statistics(&model, test, train, options, &device);
    if flags.json {
        return print_json(&ComparedSamples {
            drawn: found.drawn,
            test_images: found.real,
            training_images: train.len(),
            data_set: data.name(),
            data_hash: data.fingerprint().to_string(),
            prior: flags.prior.prior.to_string(),
            temperature: flags.prior.temperature,
            seed: options.seed,
            neighbours: options.neighbours,
            power_ratio: &found.power_ratio,
            fine_detail: found.fine_detail(),
            colour_distance: found.colour_distance,
            colour_distance_of_training: found.colour_distance_of_training,
            nearest_training: found.nearest_training,
            nearest_training_of_test: found.nearest_training_of_real,
        });
    }
    let mut text = format!(
        "{} drawn from the {} prior at temperature {} with seed {}; {} and {} of {}, data hash {}\n\n",
        counted(found.drawn as u64, "image"),
        flags.prior.prior,
        flags.prior.temperature,
        options.seed,
        counted(found.real as u64, "test image"),
        counted(train.len() as u64, "training image"),
        data.name(),
        data.fingerprint()
    );
    text += "power, drawn over test, at 1 to 16 cycles an image (below 1: blurred)\n";
    for cycles in found.power_ratio.chunks(8) {
        let cells: Vec<String> = cycles.iter().map(|ratio| format!("{ratio:7.3}")).collect();
        text += &format!("{}\n", cells.join(""));
    }
    text += &format!(
        "fine detail (9 to 16 cycles)       {:8.4}\n",
        found.fine_detail()
    );
    text += &format!(
        "colours, distance 0 to 1           {:8.4}  (as many training images to test: {:.4})\n",
        found.colour_distance, found.colour_distance_of_training
    );
    text += &format!(
        "nearest training image, median     {:8.3}  (of test images: {:.3}; of the first {}; copies would be far nearer)\n",
        found.nearest_training, found.nearest_training_of_real, options.neighbours
    );
    print(&text)
}

/// What is printed for programs.
#[derive(Serialize)]
struct ComparedSamples<'a> {
    drawn: usize,
    test_images: usize,
    training_images: usize,
    data_set: &'a str,
    data_hash: String,
    prior: String,
    temperature: f64,
    seed: u64,
    neighbours: usize,
    power_ratio: &'a [f64],
    fine_detail: f64,
    colour_distance: f64,
    colour_distance_of_training: f64,
    nearest_training: f64,
    nearest_training_of_test: f64,
}
