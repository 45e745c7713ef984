//! What lies where in a run's folder.

/// The file that says how the run was configured; its presence marks a folder as a run's.
pub const CONFIG: &str = "config.json";
/// The file that says what the run ran on.
pub const ENVIRONMENT: &str = "environment.json";
/// Weights of the whole model.
pub const MODEL: &str = "model.safetensors";
/// Weights of the encoder alone, names without `encoder.`.
pub const ENCODER: &str = "encoder.safetensors";
/// Weights of the decoder alone, names without `decoder.`.
pub const DECODER: &str = "decoder.safetensors";
/// Eight test images with what the model makes of them, for checking another implementation.
pub const REFERENCE: &str = "reference.safetensors";
/// Results.
pub const SUMMARY: &str = "summary.json";
/// A finished run's hundred draws from the prior; of the best epoch's weights.
pub const FINAL_SAMPLES: &str = "samples/final-10x10.png";
/// A finished run's reconstructions of the first twenty test images; of the best epoch's weights.
pub const FINAL_RECONSTRUCTIONS: &str = "reconstructions/final.png";
/// Held by the process that trains there.
pub(super) const LOCK: &str = "lock";
/// Of the crate that tensors are computed with.
pub const BURN_VERSION: &str = "0.22.1";
