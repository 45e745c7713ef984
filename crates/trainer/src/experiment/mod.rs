//! The experiment: its model, its data, what a finished model is worth, and what is drawn of it. It takes no training step.

pub(crate) mod data;
pub(crate) mod error;
pub mod evaluate;
pub(crate) mod export;
pub mod fid;
pub(crate) mod file_list;
pub mod importance;
pub mod latent_pictures;
pub mod latent_record;
pub mod latent_statistics;
pub mod model;
pub mod pictures;
pub mod prior;
pub mod prior_samples;
pub mod random;
pub mod sample_statistics;
pub(crate) mod split_images;
pub mod verify_run;
pub mod weights;

pub use error::ExperimentError;
