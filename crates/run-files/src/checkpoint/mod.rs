//! Checkpoints: folders that are complete, hashed and verified, or not there.
//!
//! A checkpoint is `checkpoints/epoch-NNNN-batch-NNNNN/`, named by its [`Position`], with `model.safetensors`, `optimizer.safetensors`, `state.json` and
//! `manifest.json`. It is written under another name, the manifest last, everything synced, and then renamed. Loading
//! believes nothing that its manifest does not confirm, and falls back to the one before.

mod error;
mod folder;
mod manifest;
mod removal;
mod state;

pub use error::CheckpointError;
pub use folder::{Checkpoint, CheckpointFolder, Loaded};
pub use manifest::hex;
pub use manifest::{Manifest, ManifestEntry, Origin};
pub use state::{Position, TrainingState};

#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod tests;
