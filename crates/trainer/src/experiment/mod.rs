//! The experiment: its model, its data, what a finished model is worth, and what is drawn of it. It takes no training step.

pub(crate) mod batch_images;
pub(crate) mod data;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod file_list;
pub(crate) mod in_parts;
pub mod model;
pub mod prior;
pub mod random;
mod samples;
mod scores;
pub(crate) mod split_images;
pub mod verify_run;
pub mod weights;

pub use error::ExperimentError;
pub use samples::{latent_pictures, pictures, prior_samples};
#[cfg(feature = "cube")]
pub(crate) use scores::image_posterior;
pub use scores::{evaluate, fid, importance, latent_record, latent_statistics, sample_statistics};
