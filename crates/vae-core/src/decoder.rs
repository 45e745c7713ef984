//! Latents to images: the generator.

use burn::module::Param;
use burn::nn::{BatchNorm, Linear};
use burn::prelude::*;
use resnet_blocks::{Activation, Convolution, Precision, Stage, join, norm_activate};
use vae_measures::Likelihood;

use crate::likelihood::PixelLikelihood;

/// A dense layer spread over the smallest map, four transposed stages, and a 1x1 convolution to the parameters of
/// the pixels' distributions.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Latent to intermediate features.
    pub dense: Linear,
    /// Over the intermediate features.
    pub dense_norm: BatchNorm,
    /// Strides 1, 2, 2, 2.
    pub stages: Vec<Stage>,
    /// To the channels that the likelihood reads.
    pub output: Convolution,
    /// Log-scale of each colour, where the likelihood has one for all pixels and images.
    pub log_scale: Option<Param<Tensor<1>>>,
    /// Distribution of the pixels given the output map.
    #[module(skip)]
    pub likelihood: Likelihood,
    /// After the dense norm.
    #[module(skip)]
    pub activation: Activation,
    /// Type in which every product is computed.
    #[module(skip)]
    pub precision: Precision,
    /// Height and width of the smallest map.
    pub grid: usize,
}

impl Decoder {
    /// The map that the likelihood reads: for Bernoulli families the logit of each pixel.
    ///
    /// `dropout_mask` multiplies the intermediate features; see [`DropoutMasks`](crate::DropoutMasks).
    ///
    /// # Shapes
    /// - latent: `[batch, latent_dim]`
    /// - dropout_mask: `[batch, intermediate_dim]`
    /// - output: `[batch, map_channels, image_size, image_size]`; see [`Likelihood::map_channels`]
    pub fn forward(&self, latent: Tensor<2>, dropout_mask: Option<Tensor<2>>) -> Tensor<4> {
        let maps = self.first_maps(latent, dropout_mask);
        let Some((last, before)) = self.stages.split_last() else {
            return self.output_map(maps);
        };
        let maps = before.iter().fold(maps, |maps, stage| stage.forward(maps));
        self.with_log_scale(last.forward_then(maps, &self.output))
    }

    /// The map that the likelihood reads, from the last stage's maps: what [`forward`](Self::forward) does after the stages.
    ///
    /// # Shapes
    /// - maps: `[batch, channels, image_size, image_size]`
    /// - output: `[batch, map_channels, image_size, image_size]`
    pub fn output_map(&self, maps: Tensor<4>) -> Tensor<4> {
        self.with_log_scale(self.output.forward(maps))
    }

    /// The output layer's map, and behind it the log-scale of each colour where there is one.
    fn with_log_scale(&self, output: Tensor<4>) -> Tensor<4> {
        match &self.log_scale {
            None => output,
            Some(log_scale) => {
                let shape = output.dims();
                let log_scale = log_scale.val().reshape([1, shape[1], 1, 1]).expand(shape);
                join(vec![output, log_scale], 1)
            }
        }
    }

    /// The maps that the first stage takes: what [`forward`](Self::forward) does before the stages.
    ///
    /// # Shapes
    /// - latent: `[batch, latent_dim]`
    /// - dropout_mask: `[batch, intermediate_dim]`
    /// - output: `[batch, channels, grid, grid]`
    pub fn first_maps(&self, latent: Tensor<2>, dropout_mask: Option<Tensor<2>>) -> Tensor<4> {
        let features = norm_activate(
            &self.dense_norm,
            self.activation,
            self.precision.linear(&self.dense, latent),
        );
        let features = match dropout_mask {
            Some(mask) => features * mask,
            None => features,
        };
        let [batch, features_per_image] = features.dims();
        let channels = features_per_image / (self.grid * self.grid);
        features
            .reshape([batch, self.grid, self.grid, channels])
            .permute([0, 3, 1, 2]) // [batch, channels, grid, grid]
    }

    /// The image to show for each latent, in \[0, 1\]; see [`PixelLikelihood::mean_image`].
    ///
    /// # Shapes
    /// - latent: `[batch, latent_dim]`
    /// - output: `[batch, image_channels, image_size, image_size]`
    pub fn generate(&self, latent: Tensor<2>) -> Tensor<4> {
        self.likelihood.mean_image(self.forward(latent, None))
    }
}
