//! Encoder and decoder together, and the loss.

use burn::prelude::*;
use resnet_blocks::Stage;

use crate::autoencoder::{Autoencoder, LossTerms, Segment, Segments, VaeOutput};
use crate::decoder::Decoder;
use crate::diagonal_gaussian::{DiagonalGaussian, Sampler};
use crate::dropout::DropoutMasks;
use crate::encoder::Encoder;
use crate::likelihood::PixelLikelihood;
use crate::penalty::l2_penalty;
use vae_measures::Likelihood;

/// Weight of the penalty on the mean head.
const MEAN_PENALTY: f64 = 0.01;
/// Weight of the penalty on the log-variance head.
const LOG_VARIANCE_PENALTY: f64 = 0.1;

/// The coefficient of a parameter's L2 penalty in the loss, by its name in a PyTorch `state_dict`; none for a parameter that it does not penalise.
pub fn penalty_weight(parameter: &str) -> Option<f64> {
    let (layer, _) = parameter.rsplit_once('.')?;
    match layer {
        "encoder.mean" => Some(MEAN_PENALTY),
        "encoder.log_variance" => Some(LOG_VARIANCE_PENALTY),
        _ => None,
    }
}

/// A variational autoencoder whose encoder and decoder are ResNets.
#[derive(Module, Debug)]
pub struct Vae {
    /// Images to a posterior.
    pub encoder: Encoder,
    /// Latents to images.
    pub decoder: Decoder,
    /// Values an image of the largest map: see [`VaeConfig::largest_map`](crate::VaeConfig::largest_map).
    #[module(skip)]
    pub largest_map: usize,
}

impl Vae {
    /// Encodes, draws one latent an image, decodes, and scores.
    ///
    /// On an autodiff device the norms use batch statistics (a training pass), elsewhere running ones (evaluation).
    ///
    /// # Shapes
    /// - images: `[batch, image_channels, image_size, image_size]`, in \[0, 1\]
    /// - noise: `[batch, latent_dim]`, standard normal
    pub fn forward(
        &self,
        images: Tensor<4>,
        noise: Tensor<2>,
        sampler: Sampler,
        dropout: Option<DropoutMasks>,
    ) -> VaeOutput {
        let (encoder_mask, decoder_mask) = match dropout {
            Some(masks) => (Some(masks.encoder), Some(masks.decoder)),
            None => (None, None),
        };
        let [batch, ..] = images.dims();
        let posterior = self.encoder.forward(images.clone(), encoder_mask);
        let latent = posterior.draw(sampler, noise);
        let logits = self.decoder.forward(latent.clone(), decoder_mask);
        let terms = LossTerms {
            cross_entropy: self.decoder.likelihood.nll(logits.clone(), images),
            kl: posterior.kl_to_standard_normal(),
            l2: self.l2().expand([batch]),
        };
        VaeOutput {
            posterior,
            latent,
            logits,
            terms,
        }
    }

    /// The reconstruction from the posterior's mean, in \[0, 1\].
    ///
    /// # Shapes
    /// - images, output: `[batch, image_channels, image_size, image_size]`
    pub fn reconstruct(&self, images: Tensor<4>) -> Tensor<4> {
        self.decoder
            .generate(self.encoder.forward(images, None).mean)
    }

    /// The penalties on the two heads.
    ///
    /// # Shapes
    /// - output: `[1]`
    pub fn l2(&self) -> Tensor<1> {
        l2_penalty(&self.encoder.mean, MEAN_PENALTY)
            + l2_penalty(&self.encoder.log_variance, LOG_VARIANCE_PENALTY)
    }
}

impl Autoencoder for Vae {
    fn latent_dim(&self) -> usize {
        let [_, latent_dim] = self.encoder.mean.weight.shape().dims();
        latent_dim
    }

    fn likelihood(&self) -> Likelihood {
        self.decoder.likelihood
    }

    fn score_as(&mut self, likelihood: Likelihood) -> bool {
        let fits = self.decoder.likelihood.can_be_scored_as(likelihood);
        if fits {
            self.decoder.likelihood = likelihood;
        }
        fits
    }

    fn forward(
        &self,
        images: Tensor<4>,
        noise: Tensor<2>,
        sampler: Sampler,
        dropout: Option<DropoutMasks>,
    ) -> VaeOutput {
        Vae::forward(self, images, noise, sampler, dropout)
    }

    fn posterior(&self, images: Tensor<4>) -> DiagonalGaussian {
        self.encoder.forward(images, None)
    }

    fn output_map(&self, latents: Tensor<2>) -> Tensor<4> {
        self.decoder.forward(latents, None)
    }

    fn nll(&self, map: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
        self.decoder.likelihood.nll(map, images)
    }

    fn generate(&self, latents: Tensor<2>) -> Tensor<4> {
        self.decoder.generate(latents)
    }

    fn largest_map(&self) -> usize {
        self.largest_map
    }

    fn penalty(&self) -> Tensor<1> {
        self.l2()
    }

    fn segments(&self) -> Segments<'_> {
        let Self {
            encoder, decoder, ..
        } = self;
        Segments {
            encoder: blocks(&encoder.stages),
            posterior: Box::new(|maps, mask| encoder.posterior(maps, mask)),
            first_maps: Box::new(|latents, mask| decoder.first_maps(latents, mask)),
            decoder: blocks(&decoder.stages),
            output: Box::new(|maps| decoder.output_map(maps)),
        }
    }
}

fn blocks(stages: &[Stage]) -> Vec<Segment<'_>> {
    let blocks = stages.iter().flat_map(|stage| &stage.blocks);
    blocks
        .map(|block| Box::new(|maps| block.forward(maps)) as Segment<'_>)
        .collect()
}
