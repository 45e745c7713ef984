//! What the commands read of a finished run.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::error::TrainerError;
use crate::device::open_device_for;
use crate::experiment::ExperimentError;
use crate::experiment::file_list::FileList;
use crate::experiment::model::{Model, model_config};
use crate::experiment::weights::{WeightsError, from_safetensors, load_values};
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
    // Four bytes a parameter, and a header; no other file need be read to its end.
    let largest = 4 * template.num_params() as u64 + (1 << 20);
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
    let refuse = |source| ExperimentError::ExportedWeights {
        path: path.clone(),
        source,
    };
    let values = from_safetensors(&bytes).map_err(refuse)?;
    let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    if let Some((name, _)) = values.iter().find(|(_, (_, values))| !is_finite(values)) {
        return Err(refuse(WeightsError::NotFinite { name: name.clone() }).into());
    }
    let model = load_values(template, &values).map_err(refuse)?;
    Ok((settings, model, device))
}
