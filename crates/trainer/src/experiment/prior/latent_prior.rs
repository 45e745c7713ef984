//! What latents are drawn from, and the draws.

use super::mixture_prior::MixturePrior;
use crate::experiment::random::Stream;

/// Where new images' latents come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LatentPrior {
    /// The standard normal, which the model was trained with.
    StandardNormal,
    /// A mixture over the dimensions that are used.
    Mixture(MixturePrior),
}

/// What the latents of a sheet are.
#[derive(Clone, Copy, Debug)]
pub struct LatentDraw<'a> {
    /// What they are drawn from.
    pub prior: &'a LatentPrior,
    /// Multiplies their noise.
    pub temperature: f64,
    /// Equal seeds and sheet numbers give equal latents.
    pub seed: u64,
    /// The sheet's number.
    pub sheet: u64,
}

impl LatentPrior {
    /// `count` latents one after the other, `[count, latent_dim]`: noise of the stream, its deviations multiplied by
    /// `temperature`.
    ///
    /// At temperature 1 the standard normal's are the stream's normal numbers themselves.
    pub fn draw(
        &self,
        stream: &mut Stream,
        count: usize,
        latent_dim: usize,
        temperature: f64,
    ) -> Vec<f32> {
        let mut latents = stream.standard_normal(count * latent_dim);
        if temperature != 1.0 {
            latents
                .iter_mut()
                .for_each(|value| *value = (f64::from(*value) * temperature) as f32);
        }
        if let Self::Mixture(prior) = self {
            let chosen = stream.uniform(count);
            for (latent, uniform) in latents.chunks_mut(latent_dim).zip(chosen) {
                let noise: Vec<f64> = prior
                    .dimensions
                    .iter()
                    .map(|dimension| f64::from(latent[*dimension]))
                    .collect();
                let drawn = prior.mixture.draw(f64::from(uniform), &noise);
                for (dimension, value) in prior.dimensions.iter().zip(drawn) {
                    latent[*dimension] = value as f32;
                }
            }
        }
        latents
    }
}
