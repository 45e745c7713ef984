//! Images to a posterior.

use burn::nn::{BatchNorm, Linear};
use burn::prelude::*;
use resnet_blocks::{Activation, Precision, Stage, norm_activate};

use crate::diagonal_gaussian::DiagonalGaussian;

/// Four strided stages, a dense layer at each position of the smallest map, and two dense heads.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Strides 1, 2, 2, 2.
    pub stages: Vec<Stage>,
    /// Channels to intermediate features, at each position alike.
    pub dense: Linear,
    /// Over the intermediate features.
    pub dense_norm: BatchNorm,
    /// All positions' features to the posterior's mean.
    pub mean: Linear,
    /// All positions' features to the posterior's log-variance.
    pub log_variance: Linear,
    /// After the dense norm.
    #[module(skip)]
    pub activation: Activation,
    /// Type in which every product is computed.
    #[module(skip)]
    pub precision: Precision,
}

impl Encoder {
    /// The posterior q(z given images).
    ///
    /// `dropout_mask` multiplies the intermediate features; see [`DropoutMasks`](crate::DropoutMasks).
    ///
    /// # Shapes
    /// - images: `[batch, image_channels, image_size, image_size]`, in \[0, 1\]
    /// - dropout_mask: `[batch, positions * intermediate_dim]`, feature fastest
    /// - mean and log-variance: `[batch, latent_dim]`
    pub fn forward(&self, images: Tensor<4>, dropout_mask: Option<Tensor<2>>) -> DiagonalGaussian {
        let maps = self
            .stages
            .iter()
            .fold(images, |hidden, stage| stage.forward(hidden));
        self.posterior(maps, dropout_mask)
    }

    /// The posterior from the last stage's maps: what [`forward`](Self::forward) does behind the stages.
    ///
    /// # Shapes
    /// - maps: `[batch, channels, grid, grid]`
    /// - dropout_mask: `[batch, positions * intermediate_dim]`, feature fastest
    /// - mean and log-variance: `[batch, latent_dim]`
    pub fn posterior(&self, maps: Tensor<4>, dropout_mask: Option<Tensor<2>>) -> DiagonalGaussian {
        let [batch, channels, height, width] = maps.dims();
        let features = maps
            .permute([0, 2, 3, 1])
            .reshape([batch * height * width, channels]); // [batch * positions, channels]
        let features = norm_activate(
            &self.dense_norm,
            self.activation,
            self.precision.linear(&self.dense, features),
        );
        let features: Tensor<2> = features.reshape([batch as i32, -1]);
        let features = match dropout_mask {
            Some(mask) => features * mask,
            None => features,
        };
        DiagonalGaussian {
            mean: self.precision.linear(&self.mean, features.clone()),
            log_variance: self.precision.linear(&self.log_variance, features),
        }
    }
}
