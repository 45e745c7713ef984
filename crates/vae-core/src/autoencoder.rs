//! What training, evaluation and pictures need of a model, whatever it is made of.

use burn::prelude::*;
use vae_measures::Likelihood;

use crate::diagonal_gaussian::{DiagonalGaussian, Sampler};
use crate::dropout::DropoutMasks;

/// The loss, term by term: nats per image, each `[batch]`.
#[derive(Clone, Debug)]
pub struct LossTerms {
    /// Negative log-probability of the image given its latent; under a Bernoulli likelihood the cross-entropy of its grey
    /// levels. `[batch]`
    pub cross_entropy: Tensor<1>,
    /// KL divergence of the posterior to the standard normal; `[batch]`
    pub kl: Tensor<1>,
    /// 0.01 times the squares of the mean head plus 0.1 times those of the log-variance head, the same for each image;
    /// `[batch]`
    pub l2: Tensor<1>,
}

impl LossTerms {
    /// What is minimised, per image: the sum of the three terms.
    ///
    /// # Shapes
    /// - output: `[batch]`
    pub fn loss(&self) -> Tensor<1> {
        self.cross_entropy.clone() + self.kl.clone() + self.l2.clone()
    }
}

/// Everything a pass computes.
#[derive(Clone, Debug)]
pub struct VaeOutput {
    /// q(z given images)
    pub posterior: DiagonalGaussian,
    /// The draw from the posterior; `[batch, latent_dim]`
    pub latent: Tensor<2>,
    /// The decoder's output map: for Bernoulli families the logits of the reconstruction;
    /// `[batch, map_channels, image_size, image_size]`
    pub logits: Tensor<4>,
    /// The loss, term by term.
    pub terms: LossTerms,
}

/// A variational autoencoder of images. The names of its encoder's parameters begin with `encoder.`, those of its decoder's with
/// `decoder.`.
pub trait Autoencoder {
    /// Dimensions of the latent.
    fn latent_dim(&self) -> usize;

    /// The distribution of an image given its latent.
    fn likelihood(&self) -> Likelihood;

    /// Takes another likelihood that reads the same map; whether `likelihood` is one.
    fn score_as(&mut self, likelihood: Likelihood) -> bool;

    /// Encodes, draws one latent an image, decodes, and scores.
    ///
    /// On an autodiff device the norms use batch statistics (a training pass), elsewhere running ones (evaluation).
    ///
    /// # Shapes
    /// - images: `[batch, image_channels, image_size, image_size]`, in \[0, 1\]
    /// - noise: `[batch, latent_dim]`, standard normal
    fn forward(
        &self,
        images: Tensor<4>,
        noise: Tensor<2>,
        sampler: Sampler,
        dropout: Option<DropoutMasks>,
    ) -> VaeOutput;

    /// The posterior of each image's latent.
    ///
    /// # Shapes
    /// - images: `[batch, image_channels, image_size, image_size]`, in \[0, 1\]
    /// - mean and log-variance: `[batch, latent_dim]`
    fn posterior(&self, images: Tensor<4>) -> DiagonalGaussian;

    /// The parameters of each pixel's distribution.
    ///
    /// # Shapes
    /// - latents: `[batch, latent_dim]`
    /// - output: `[batch, map_channels, image_size, image_size]`
    fn output_map(&self, latents: Tensor<2>) -> Tensor<4>;

    /// Negative log-probability of images under an output map, in nats.
    ///
    /// # Shapes
    /// - map: as [`output_map`](Self::output_map) gives it
    /// - images: `[batch, image_channels, image_size, image_size]`, in \[0, 1\]
    /// - output: `[batch]`
    fn nll(&self, map: Tensor<4>, images: Tensor<4>) -> Tensor<1>;

    /// The mean images of latents, in \[0, 1\].
    ///
    /// # Shapes
    /// - latents: `[batch, latent_dim]`
    /// - output: `[batch, image_channels, image_size, image_size]`
    fn generate(&self, latents: Tensor<2>) -> Tensor<4>;

    /// Values an image of the largest map that a pass without gradients makes, which bounds the images that a device takes at a time.
    fn largest_map(&self) -> usize;

    /// The penalties on the weights.
    ///
    /// # Shapes
    /// - output: `[1]`
    fn penalty(&self) -> Tensor<1>;

    /// The pieces of a training pass, for one that keeps their inputs alone and computes them again on the way back.
    fn segments(&self) -> Segments<'_>;

    /// The reconstruction from the posterior's mean, in \[0, 1\].
    ///
    /// # Shapes
    /// - images, output: `[batch, image_channels, image_size, image_size]`
    fn reconstruct(&self, images: Tensor<4>) -> Tensor<4> {
        self.generate(self.posterior(images).mean)
    }
}

/// A function of feature maps with parameters of its own.
pub type Segment<'a> = Box<dyn Fn(Tensor<4>) -> Tensor<4> + 'a>;

/// A training pass in pieces: images go through `encoder`, `posterior`, a draw, `first_maps`, `decoder` and `output`. No two pieces
/// share a parameter.
pub struct Segments<'a> {
    /// From the images on.
    pub encoder: Vec<Segment<'a>>,
    /// The posterior from the last of the encoder's maps, with the encoder's dropout mask.
    #[allow(clippy::type_complexity)] // A name for one use says less than the type.
    pub posterior: Box<dyn Fn(Tensor<4>, Option<Tensor<2>>) -> DiagonalGaussian + 'a>,
    /// The decoder's first maps from latents, with the decoder's dropout mask.
    #[allow(clippy::type_complexity)]
    pub first_maps: Box<dyn Fn(Tensor<2>, Option<Tensor<2>>) -> Tensor<4> + 'a>,
    /// From the first maps on.
    pub decoder: Vec<Segment<'a>>,
    /// The last piece: from the last of the decoder's maps to the output map.
    pub output: Segment<'a>,
}

impl std::fmt::Debug for Segments<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Functions have nothing to show but how many there are.
        let mut shown = formatter.debug_struct("Segments");
        shown.field("encoder", &self.encoder.len());
        shown.field("decoder", &self.decoder.len());
        shown.finish_non_exhaustive()
    }
}
