use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::load_run;
use crate::experiment::pictures::write_reconstruction;
use run_files::settings::DeviceChoice;
use run_report::image_sheet::load_rgb_image;

#[derive(clap::Args)]
pub(super) struct ReconstructFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R")]
    run_dir: PathBuf,
    /// The picture to encode, PNG or JPEG; resized to 32 x 32
    #[arg(long, value_name = "F")]
    image: PathBuf,
    /// The picture to write: the 32 x 32 input beside its reconstruction, a PNG
    #[arg(long, value_name = "G.png")]
    out: PathBuf,
    /// flex, ndarray or cuda:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

pub(super) fn run(flags: &ReconstructFlags) -> Result<(), TrainerError> {
    let (_, model, device) = load_run(&flags.run_dir, flags.device)?;
    let image = load_rgb_image(&flags.image)?;
    write_reconstruction(&model, image, &flags.out, &device)?;
    println!("{}", flags.out.display());
    Ok(())
}
