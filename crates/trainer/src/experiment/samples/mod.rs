//! What is drawn of a model: priors, and pictures of what the decoder makes of them.

pub mod latent_pictures;
pub mod pictures;
pub mod prior;
pub mod prior_samples;
