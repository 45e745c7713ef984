//! What is drawn of a model: what its decoder makes of a prior, and of an image's latents.

pub mod latent_pictures;
pub mod pictures;
pub mod prior_samples;
