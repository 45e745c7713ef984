//! What a finished run leaves for others: weights and a summary.

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::View;
use vae_core::Vae;

use super::error::ExperimentError;
use crate::experiment::weights::{NamedValues, named_values, to_safetensors};
use run_files::run_folder::{DECODER, ENCODER, MODEL, REFERENCE, RunFolder, SUMMARY, pretty};
use run_files::run_record::RunSummary;

/// Writes the weights of the best epoch, whole and in parts, what they make of eight test images, and `summary.json`.
///
/// # Errors
/// Where a file cannot be written.
pub(crate) fn export(
    folder: &RunFolder,
    model: &Vae,
    test_images: &View,
    device: &Device,
    summary: &RunSummary,
) -> Result<(), ExperimentError> {
    let parts: [(&str, NamedValues); 4] = [
        (MODEL, named_values(model)),
        (ENCODER, named_values(&model.encoder)),
        (DECODER, named_values(&model.decoder)),
        (REFERENCE, reference(model, test_images, device)),
    ];
    for (name, values) in parts {
        let bytes = to_safetensors(&values).map_err(|source| {
            run_files::checkpoint::CheckpointError::Weights {
                path: folder.join(name),
                source,
            }
        })?;
        folder.write(name, &bytes)?;
    }
    Ok(folder.write(SUMMARY, &pretty(&summary.to_json()))?)
}

/// Images, posterior, and the logits of the posterior's mean.
fn reference(model: &Vae, test_images: &View, device: &Device) -> NamedValues {
    let positions: Vec<u32> = (0..test_images.len().min(8) as u32).collect();
    let images = test_images
        .batch(&positions)
        .to_tensor(&device.clone().inner());
    let posterior = model.encoder.forward(images.clone(), None);
    let logits = model.decoder.forward(posterior.mean.clone(), None);
    let named = [
        ("images", images.into_data()),
        ("mean", posterior.mean.into_data()),
        ("log_variance", posterior.log_variance.into_data()),
        ("logits", logits.into_data()),
    ];
    named
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            let values = data.convert_dtype(DType::F32).try_to_vec::<f32>();
            (
                name.to_owned(),
                (shape, values.expect("converted to float32 just now")),
            )
        })
        .collect()
}
