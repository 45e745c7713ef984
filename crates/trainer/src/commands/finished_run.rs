//! What the commands read of a finished run.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::error::TrainerError;
use crate::device::open_device_for;
use crate::experiment::ExperimentError;
use crate::experiment::file_list::FileList;
use crate::experiment::model::{Model, model_config};
use crate::experiment::weights::{
    NamedValues, WeightsError, from_safetensors, load_values, take_average,
};
use run_files::checkpoint::CheckpointFolder;
use run_files::file_operations::read_at_most;
use run_files::run_folder::{MODEL, file_error, read_settings};
use run_files::run_record::RunRecordError;
use run_files::settings::{DeviceChoice, Settings};

/// A finished run's settings and model, for inference.
pub(super) fn load_run(
    run_dir: &Path,
    device: DeviceChoice,
) -> Result<(Settings, Model, Device), TrainerError> {
    let settings = read_settings(run_dir)?;
    let device = open_device_for(device, settings.precision)?;
    let path = run_dir.join(MODEL);
    if !path.exists() {
        return Err(RunRecordError::Unfinished {
            path: run_dir.to_owned(),
        }
        .into());
    }
    let template = Model::new(&model_config(&settings)?, &device);
    let values = exported_values(run_dir, template.num_params())?;
    let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let refuse = |source| ExperimentError::ExportedWeights {
        path: path.clone(),
        source,
    };
    if let Some((name, _)) = values.iter().find(|(_, (_, values))| !is_finite(values)) {
        return Err(refuse(WeightsError::NotFinite { name: name.clone() }).into());
    }
    let model = load_values(template, &values).map_err(refuse)?;
    Ok((settings, model, device))
}

/// The weights themselves of a finished run whose exported ones are their moving average: those of the checkpoint that has this average.
/// None where no checkpoint does.
///
/// `averaged` is the model of [`load_run`], whose likelihood and device the other one gets.
///
/// # Errors
/// Where the exported weights or the folder of checkpoints cannot be read.
pub(super) fn trained_weights(
    run_dir: &Path,
    averaged: &Model,
) -> Result<Option<Model>, TrainerError> {
    let parameters = averaged.num_params();
    let exported = exported_values(run_dir, parameters)?;
    let checkpoints = CheckpointFolder::of_run(run_dir, parameters);
    // The best epoch's is the oldest but for one.
    for position in checkpoints.positions()? {
        let Ok(mut checkpoint) = checkpoints.load(position) else {
            continue;
        };
        if take_average(&mut checkpoint.optimizer) == exported {
            // Burn's modules share their running statistics with their clones; `averaged` keeps its own.
            let model = load_values(averaged.valid(), &checkpoint.model);
            return Ok(model.ok());
        }
    }
    Ok(None)
}

/// What `model.safetensors` holds, of a model with so many parameters and running statistics.
fn exported_values(run_dir: &Path, parameters: usize) -> Result<NamedValues, TrainerError> {
    let path = run_dir.join(MODEL);
    // Four bytes a parameter, and a header; no other file need be read to its end.
    let largest = 4 * parameters as u64 + (1 << 20);
    let bytes = read_at_most(&path, largest).map_err(file_error(&path))?;
    // A list that cannot be read is for `verify-run` to name.
    let list = FileList::read(run_dir).ok().flatten();
    if let Some((expected, found)) = list.and_then(|list| list.difference(MODEL, &bytes)) {
        return Err(ExperimentError::FileDamaged {
            path,
            expected,
            found,
        }
        .into());
    }
    let values = from_safetensors(&bytes);
    values.map_err(|source| ExperimentError::ExportedWeights { path, source }.into())
}
