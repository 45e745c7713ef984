use std::num::NonZeroUsize;
use std::path::PathBuf;

use cifar_loader::Split;

use super::sheet::{MOST_PICTURES, position, sheet_size};
use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::number_argument::integer;
use crate::commands::output::print_place;
use crate::commands::path_argument::{path, picture_path};
use crate::experiment::data;
use crate::experiment::data::split;
use crate::experiment::latent_pictures::{PictureFile, write_interpolations};
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(in crate::commands) struct InterpolateFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// The picture to write, a PNG: one row for each pair
    #[arg(long, value_name = "F.png", value_parser = picture_path())]
    out: PathBuf,
    /// Two test images, from 0, as `3,17`; may be given several times [default: 0,1 2,3 .. 8,9]
    #[arg(long, value_name = "A,B", value_parser = parse_pair)]
    pair: Vec<[u32; 2]>,
    /// Pictures a row, both ends among them
    #[arg(long, value_name = "N", default_value = "11", value_parser = integer::<NonZeroUsize>(2..=MOST_PICTURES))]
    columns: NonZeroUsize,
    /// Folder of the data set; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

fn parse_pair(text: &str) -> Result<[u32; 2], String> {
    let pair = text
        .split_once(',')
        .and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
    pair.ok_or_else(|| "two positions of test images, as `3,17`".to_owned())
}

pub(in crate::commands) fn run(flags: &InterpolateFlags) -> Result<(), TrainerError> {
    let (mut settings, model, device) = load_run(&flags.run_dir, flags.device)?;
    if let Some(folder) = &flags.data_dir {
        settings.data_dir = Some(folder.clone());
    }
    let data = data::load_for_run(&settings, &flags.run_dir)?;
    let splits = split(&settings, &data)?;
    let view = splits.get(Split::Test);
    let pairs = if flags.pair.is_empty() {
        // As many of the first as there are; a single image is its own neighbour.
        let images = u32::try_from(view.len()).unwrap_or(u32::MAX);
        let of_row = |row: u32| [2 * row, (2 * row + 1).min(images - 1)];
        (0..5.min(images.div_ceil(2))).map(of_row).collect()
    } else {
        flags.pair.clone()
    };
    for image in pairs.iter().flatten() {
        position("--pair", *image, view)?;
    }
    sheet_size(pairs.len(), flags.columns.get())?;
    write_interpolations(
        &model,
        view,
        &pairs,
        flags.columns.get(),
        PictureFile::named(&flags.out),
        &device,
    )?;
    print_place(&flags.out)
}
