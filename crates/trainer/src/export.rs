//! What a finished run leaves for others: weights and a summary.

use serde_json::{Value, json};
use vae_core::Vae;

use crate::error::TrainerError;
use crate::metrics::{EpochRow, Terms};
use crate::run_folder::{RunFolder, pretty};
use crate::weights::{NamedValues, named_values, to_safetensors};

/// Weights of the whole model.
pub const MODEL: &str = "model.safetensors";
/// Weights of the encoder alone, names without `encoder.`.
pub const ENCODER: &str = "encoder.safetensors";
/// Weights of the decoder alone, names without `decoder.`.
pub const DECODER: &str = "decoder.safetensors";
/// Results.
pub const SUMMARY: &str = "summary.json";

/// Writes the weights of the best epoch, whole and in parts, and `summary.json`.
///
/// # Errors
/// Where a file cannot be written.
pub fn export(
    folder: &RunFolder,
    model: &Vae,
    best: &EpochRow,
    last: &EpochRow,
    test: &Terms,
    stopped_early: bool,
) -> Result<(), TrainerError> {
    let parts: [(&str, NamedValues); 3] = [
        (MODEL, named_values(model)),
        (ENCODER, named_values(&model.encoder)),
        (DECODER, named_values(&model.decoder)),
    ];
    for (name, values) in parts {
        let bytes = to_safetensors(&values)
            .map_err(|source| crate::checkpoint::CheckpointError::Weights { path: folder.join(name), source })?;
        folder.write(name, &bytes)?;
    }
    let summary = json!({
        "weights_of_epoch": best.epoch,
        "stopped_early": stopped_early,
        "best": row(best),
        "last": row(last),
        "test": terms(test),
    });
    folder.write(SUMMARY, &pretty(&summary))
}

fn row(row: &EpochRow) -> Value {
    json!({
        "epoch": row.epoch,
        "learning_rate": row.learning_rate,
        "train": terms(&row.train),
        "valid": terms(&row.valid),
    })
}

/// Nats an image; what is not finite becomes `null`.
pub fn terms(terms: &Terms) -> Value {
    json!({
        "loss": terms.loss,
        "cross_entropy": terms.cross_entropy,
        "excess": terms.excess,
        "kl": terms.kl,
        "l2": terms.l2,
    })
}
