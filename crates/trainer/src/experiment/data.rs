//! The data set that settings ask for.

use std::path::Path;

use cifar_loader::{Augment, Cifar10, ImageSet, SplitOptions, Splits, Validation};

use super::error::ExperimentError;
use run_files::run_folder::{read_environment, recorded_data_hash};
use run_files::settings::{self, EmbeddedData, Settings};

/// Where `cargo xtask download` puts the data set.
const DEFAULT_FOLDER: &str = "data";

/// A data set of any kind.
pub(crate) type Data = Box<dyn ImageSet>;

/// A data set inside the program.
fn embedded(data: EmbeddedData) -> Result<Data, ExperimentError> {
    match data {
        EmbeddedData::Sample => Ok(Box::new(Cifar10::sample()?)),
    }
}

/// The data set that lies in a folder.
fn in_folder(folder: &Path) -> Result<Data, cifar_loader::Error> {
    Ok(Box::new(Cifar10::load(folder)?))
}

/// Loads and verifies the data set: `--data-dir` where given; what is inside the program where it was asked for by name, and its sample
/// for the demo; else what lies in `data`.
///
/// # Errors
/// Where the folder holds no complete, unchanged CIFAR-10.
pub(crate) fn load(settings: &Settings) -> Result<Data, ExperimentError> {
    if let Some(data) = settings.embedded_data() {
        return embedded(data);
    }
    if let Some(folder) = &settings.data_dir {
        return Ok(in_folder(folder)?);
    }
    let folder = Path::new(DEFAULT_FOLDER);
    match in_folder(folder) {
        Err(cifar_loader::Error::DatasetMissing { .. }) => Err(ExperimentError::NoData),
        loaded => Ok(loaded?),
    }
}

/// As [`load`], for a run whose data has this hash: one that was made with the embedded sample, and whose settings do not say so, still
/// has it.
///
/// # Errors
/// As [`load`]. Data with another hash is no error here.
pub(crate) fn load_recorded(
    settings: &Settings,
    recorded: Option<&str>,
) -> Result<Data, ExperimentError> {
    match (load(settings), recorded) {
        (Err(ExperimentError::NoData), Some(recorded)) => {
            let sample = embedded(EmbeddedData::Sample)?;
            if sample.fingerprint().to_string() == recorded {
                Ok(sample)
            } else {
                Err(ExperimentError::NoData)
            }
        }
        (loaded, _) => loaded,
    }
}

/// The data set that a run was made with, for a command that measures the run.
///
/// # Errors
/// As [`load`], and where the data is not that of the run.
pub(crate) fn load_for_run(settings: &Settings, run_dir: &Path) -> Result<Data, ExperimentError> {
    let recorded = recorded_data_hash(run_dir)?;
    let data = load_recorded(settings, Some(&recorded))?;
    check_recorded(run_dir, &recorded, &data)?;
    Ok(data)
}

/// Refuses data that a run, whose data has this hash, was not made with.
///
/// # Errors
/// [`ExperimentError::OtherData`].
pub(crate) fn check_recorded(
    run_dir: &Path,
    recorded: &str,
    data: &Data,
) -> Result<(), ExperimentError> {
    let found = data.fingerprint().to_string();
    if found == recorded {
        return Ok(());
    }
    let mut is_embedded = false;
    for data in EmbeddedData::all() {
        is_embedded |= embedded(*data)?.fingerprint().to_string() == recorded;
    }
    Err(ExperimentError::OtherData {
        run_dir: run_dir.to_owned(),
        recorded: described(&recorded_source(run_dir), recorded),
        found: described(&described_source(data), &found),
        cure: if is_embedded {
            "leave out `--data-dir`: the run has the images inside the program"
        } else {
            "give the run's data with `--data-dir`"
        },
    })
}

/// Name and place of a data set.
pub(crate) fn described_source(data: &dyn ImageSet) -> String {
    format!("{} ({})", data.name(), data.source())
}

fn described(source: &str, hash: &str) -> String {
    format!("{source}, hash {}", &hash[..hash.len().min(12)])
}

/// Where the run found its data.
fn recorded_source(run_dir: &Path) -> String {
    let environment = read_environment(run_dir).ok();
    let source = environment.and_then(|value| value["data_source"].as_str().map(str::to_owned));
    source.unwrap_or_else(|| "an unknown place".to_owned())
}

/// The splits the settings ask for.
///
/// # Errors
/// Where one of them is empty.
pub fn split(settings: &Settings, data: &dyn ImageSet) -> Result<Splits, ExperimentError> {
    Ok(data.split(&SplitOptions {
        validation: validation(settings),
        seed: settings.seed,
        limit_train: settings.limit_train,
        limit_test: settings.limit_test,
    })?)
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
