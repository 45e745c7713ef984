//! What a finished run leaves for others: weights and a summary.

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::View;

use super::error::ExperimentError;
use crate::experiment::model::Model;
use crate::experiment::weights::{
    DECODER_PREFIX, ENCODER_PREFIX, NamedValues, named_values, of_network, to_pytorch_safetensors,
};
use run_files::run_folder::{DECODER, ENCODER, MODEL, REFERENCE, RunFolder, SUMMARY, pretty};
use run_files::run_record::RunSummary;

/// Writes the weights of the best epoch, whole and in parts, what they make of eight test images, and `summary.json`.
///
/// # Errors
/// Where a file cannot be written.
pub(crate) fn export(
    folder: &RunFolder,
    model: &Model,
    test_images: &View,
    device: &Device,
    summary: &RunSummary,
) -> Result<(), ExperimentError> {
    let whole = named_values(model);
    let files: [(&str, NamedValues); 4] = [
        (ENCODER, of_network(&whole, ENCODER_PREFIX)),
        (DECODER, of_network(&whole, DECODER_PREFIX)),
        (MODEL, whole),
        (REFERENCE, reference(model, test_images, device)),
    ];
    for (name, values) in files {
        let bytes = to_pytorch_safetensors(&values).map_err(|source| {
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
fn reference(model: &Model, test_images: &View, device: &Device) -> NamedValues {
    let positions: Vec<u32> = (0..test_images.len().min(8) as u32).collect();
    let images = test_images
        .batch(&positions)
        .to_tensor(&device.clone().inner());
    let posterior = model.posterior(images.clone());
    let logits = model.output_map(posterior.mean.clone());
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
