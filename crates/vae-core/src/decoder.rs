//! Latents to images: the generator.

use burn::nn::{BatchNorm, Linear};
use burn::prelude::*;
use burn::tensor::activation::sigmoid;
use resnet_blocks::{Activation, Convolution, Precision, Stage, norm_activate};

/// A dense layer spread over the smallest map, four transposed stages, and a 1x1 convolution to pixels.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Latent to intermediate features.
    pub dense: Linear,
    /// Over the intermediate features.
    pub dense_norm: BatchNorm,
    /// Strides 1, 2, 2, 2.
    pub stages: Vec<Stage>,
    /// To the image's channels.
    pub output: Convolution,
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
    /// Logits of the Bernoulli distribution of each pixel.
    ///
    /// `dropout_mask` multiplies the intermediate features; see [`DropoutMasks`](crate::DropoutMasks).
    ///
    /// # Shapes
    /// - latent: `[batch, latent_dim]`
    /// - dropout_mask: `[batch, intermediate_dim]`
    /// - output: `[batch, image_channels, image_size, image_size]`
    pub fn forward(&self, latent: Tensor<2>, dropout_mask: Option<Tensor<2>>) -> Tensor<4> {
        let maps = self
            .stages
            .iter()
            .fold(self.first_maps(latent, dropout_mask), |hidden, stage| {
                stage.forward(hidden)
            });
        self.output.forward(maps)
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

    /// The mean image of each latent: the sigmoid of the logits, in \[0, 1\].
    ///
    /// # Shapes
    /// - latent: `[batch, latent_dim]`
    /// - output: `[batch, image_channels, image_size, image_size]`
    pub fn generate(&self, latent: Tensor<2>) -> Tensor<4> {
        sigmoid(self.forward(latent, None))
    }
}
