//! The data set that settings ask for.

use std::path::Path;

use cifar_loader::{Augment, Cifar10, Split, SplitOptions, Splits, Validation};

use super::error::ExperimentError;
use crate::process::progress::Progress;
use run_files::settings::{self, Settings};

/// Where `cargo xtask download` puts the data set.
const DEFAULT_FOLDER: &str = "data";

/// Loads and verifies the data set: `--data-dir` where given; the embedded sample for the demo; else `data`, or the
/// embedded sample, with a notice, where nothing has been downloaded there.
///
/// # Errors
/// Where the folder holds no complete, unchanged CIFAR-10.
pub(crate) fn load(
    settings: &Settings,
    progress: &mut Progress,
) -> Result<Cifar10, ExperimentError> {
    if let Some(folder) = &settings.data_dir {
        return Ok(Cifar10::load(folder)?);
    }
    if settings.uses_sample() {
        return Ok(Cifar10::sample()?);
    }
    let folder = Path::new(DEFAULT_FOLDER);
    if ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]
        .iter()
        .any(|name| folder.join(name).exists())
    {
        return Ok(Cifar10::load(folder)?);
    }
    progress.notice(
        "no data set in `data`: using the embedded sample of 2,000 + 500 images; \
         `cargo xtask download` brings all 60,000",
    );
    Ok(Cifar10::sample()?)
}

/// The splits the settings ask for.
///
/// # Errors
/// Where one of them is empty.
pub fn split(settings: &Settings, data: &Cifar10) -> Result<Splits, ExperimentError> {
    let splits = data.split(&SplitOptions {
        validation: validation(settings),
        seed: settings.seed,
        limit_train: settings.limit_train,
        limit_test: settings.limit_test,
    })?;
    for split in [Split::Train, Split::Valid, Split::Test] {
        if splits.get(split).is_empty() {
            return Err(ExperimentError::EmptySplit { split });
        }
    }
    Ok(splits)
}

/// The loader's word for the settings' validation.
pub(crate) fn validation(settings: &Settings) -> Validation {
    match settings.validation {
        settings::Validation::HeldOut => Validation::HeldOut,
        settings::Validation::Test => Validation::Test,
    }
}

/// The loader's word for the settings' augmentation.
pub(crate) fn augment(settings: &Settings) -> Augment {
    match settings.augment {
        settings::Augment::None => Augment::None,
        settings::Augment::Flip => Augment::Flip,
        settings::Augment::FlipCrop => Augment::FlipCrop,
    }
}
