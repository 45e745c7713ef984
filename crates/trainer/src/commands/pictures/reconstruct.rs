use std::path::{Path, PathBuf};

use crate::commands::error::TrainerError;
use crate::commands::finished_run::load_run;
use crate::commands::output::print_place;
use crate::commands::path_argument::{path, picture_path};
use crate::experiment::pictures::write_reconstruction;
use run_files::settings::DeviceChoice;
use run_report::image_sheet::load_rgb_image;

#[derive(clap::Args)]
pub(in crate::commands) struct ReconstructFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// The picture to encode, PNG or JPEG; resized to 32 x 32
    #[arg(long, value_name = "F", value_parser = path())]
    image: PathBuf,
    /// The picture to write: the 32 x 32 input beside its reconstruction, a PNG
    #[arg(long, value_name = "G.png", value_parser = picture_path())]
    out: PathBuf,
    /// Colour behind what is transparent in the picture: RRGGBB in hexadecimal digits
    #[arg(long, value_name = "COLOUR", default_value = "ffffff", value_parser = colour)]
    background: [u8; 3],
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

pub(in crate::commands) fn run(flags: &ReconstructFlags) -> Result<(), TrainerError> {
    if is_same_file(&flags.image, &flags.out) {
        return Err(TrainerError::OutIsImage {
            path: flags.out.clone(),
        });
    }
    let (_, model, device) = load_run(&flags.run_dir, flags.device)?;
    let image = load_rgb_image(&flags.image, flags.background)?;
    write_reconstruction(&model, image, &flags.out, &device)?;
    print_place(&flags.out)
}

/// Whether both names lead to one file that is there.
fn is_same_file(first: &Path, second: &Path) -> bool {
    match (first.canonicalize(), second.canonicalize()) {
        (Ok(first), Ok(second)) => first == second && first.is_file(),
        _ => false,
    }
}

fn colour(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let number = u32::from_str_radix(digits, 16).ok();
    let number = number.filter(|_| digits.len() == 6 && !digits.starts_with('+'));
    let [_, red, green, blue] = number
        .ok_or("a colour has six hexadecimal digits, such as ffffff for white")?
        .to_be_bytes();
    Ok([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_six_hexadecimal_digits() {
        assert_eq!(colour("ff8000"), Ok([255, 128, 0]));
        assert_eq!(colour("#000000"), Ok([0, 0, 0]));
        for text in ["", "white", "fff", "+fffff", "ff80000"] {
            assert!(colour(text).is_err(), "{text}");
        }
    }
}
