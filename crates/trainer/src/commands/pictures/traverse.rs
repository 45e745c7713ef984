use std::num::NonZeroUsize;
use std::path::PathBuf;

use cifar_loader::Split;

use super::sheet::{MOST_PICTURES, position, sheet_size};
use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_place};
use crate::commands::path_argument::{path, picture_path};
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::latent_pictures::{PictureFile, TraversalOptions, write_traversal};
use crate::experiment::latent_statistics::latent_statistics;
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(in crate::commands) struct TraverseFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// The picture to write, a PNG: one row for each latent dimension, the most used ones first
    #[arg(long, value_name = "F.png", value_parser = picture_path())]
    out: PathBuf,
    /// The test image that the other dimensions are taken from, from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = integer::<u32>(0..=49_999))]
    image: u32,
    /// Latent dimensions
    #[arg(long, value_name = "D", default_value = "10", value_parser = integer::<NonZeroUsize>(1..=65_536))]
    dimensions: NonZeroUsize,
    /// Pictures a row
    #[arg(long, value_name = "N", default_value = "11", value_parser = integer::<NonZeroUsize>(1..=MOST_PICTURES))]
    columns: NonZeroUsize,
    /// From this many standard deviations of the prior below 0 to as many above, at most 100
    #[arg(
        long,
        value_name = "X",
        default_value_t = 3.0,
        allow_negative_numbers = true
    )]
    range: f64,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

/// Images at a time for the statistics.
const BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

/// Standard deviations of the prior that no decoder has ever seen a latent beyond.
const LARGEST_RANGE: f64 = 100.0;

pub(in crate::commands) fn run(flags: &TraverseFlags) -> Result<(), TrainerError> {
    if !(flags.range > 0.0 && flags.range <= LARGEST_RANGE) {
        return Err(TrainerError::UnfittingFlag {
            flag: "--range",
            given: flags.range.to_string(),
            reason: format!("a range is a number above 0 and at most {LARGEST_RANGE}"),
        });
    }
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let rows = flags.dimensions.get().min(settings.latent_dim);
    sheet_size(rows, flags.columns.get())?;
    let data = data::load_for_run(&settings, &flags.run_dir)?;
    let splits = split(&settings, &data)?;
    let view = splits.get(Split::Test);
    position("--image", flags.image, view)?;
    let statistics = latent_statistics(&model, view, BATCH, &device);
    let options = TraversalOptions {
        dimensions: flags.dimensions.get(),
        columns: flags.columns.get(),
        range: flags.range,
    };
    let shown = write_traversal(
        &model,
        view,
        flags.image,
        &statistics,
        options,
        PictureFile::named(&flags.out),
        &device,
    )?;
    let lines = shown.into_iter().map(|dimension| {
        let kl = statistics.kl_per_dimension[dimension];
        format!("dimension {dimension:4}  KL {kl:7.3} nats an image\n")
    });
    let lines: String = lines.collect();
    print(&lines)?;
    print_place(&flags.out)
}
