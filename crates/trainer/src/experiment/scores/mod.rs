//! What a finished model is worth: the loss of a split, a tighter bound, what the latents do, how drawn images differ from real ones.

pub mod evaluate;
pub mod fid;
pub(crate) mod image_posterior;
pub mod importance;
pub mod latent_record;
pub mod latent_statistics;
pub mod sample_statistics;
#[cfg(feature = "flex")]
mod side_by_side;
