//! The path around a block's convolutions.

use burn::nn::BatchNorm;
use burn::prelude::*;

use crate::convolution::{Convolution, ConvolutionConfig};
use crate::layers::{NormalizedLayer, PathAround};
use crate::norm::{NormConfig, normalize};
use crate::precision::Precision;
use crate::sampling::Sampling;

/// Whether a block has a path around its convolutions.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Shortcuts {
    /// Identity where stride is 1 and channels are equal, projection elsewhere (He et al. 2015, option B).
    Residual,
    /// None: the plain network of the degradation experiment.
    Plain,
}

/// A 1x1 convolution and a batch norm that give the shortcut the size of the block's output.
#[derive(Module, Debug)]
pub struct Projection {
    /// 1x1, with the block's stride.
    pub convolution: Convolution,
    /// Over the output channels.
    pub norm: BatchNorm,
}

impl Projection {
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: that of the block
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        normalize(&self.norm, self.convolution.forward_plain(input))
    }
}

/// The path around a block's convolutions.
#[derive(Module, Debug)]
pub struct Shortcut {
    /// Present where the block changes the size or the number of channels.
    pub projection: Option<Projection>,
    /// Whether the block has a path around it at all.
    #[module(skip)]
    pub shortcuts: Shortcuts,
}

impl Shortcut {
    /// Chooses identity or projection by the block's stride and channels.
    pub(crate) fn init(
        shortcuts: Shortcuts,
        [channels_in, channels_out]: [usize; 2],
        stride: usize,
        sampling: Sampling,
        precision: Precision,
        norm: &NormConfig,
        device: &Device,
    ) -> Self {
        let changes_shape = stride != 1 || channels_in != channels_out;
        let projection = (shortcuts == Shortcuts::Residual && changes_shape).then(|| Projection {
            convolution: ConvolutionConfig::new(channels_in, channels_out)
                .with_stride(stride)
                .with_sampling(sampling)
                .with_precision(precision)
                .init(device),
            norm: norm.init(channels_out, device),
        });
        Self {
            projection,
            shortcuts,
        }
    }

    /// The value to add to the block's main path; none in a plain network.
    ///
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: that of the block
    pub fn forward(&self, input: Tensor<4>) -> Option<Tensor<4>> {
        match (self.shortcuts, &self.projection) {
            (Shortcuts::Plain, _) => None,
            (Shortcuts::Residual, Some(projection)) => Some(projection.forward(input)),
            (Shortcuts::Residual, None) => Some(input),
        }
    }

    /// The path as a form of the block sees it.
    pub(crate) fn layers(&self) -> PathAround<'_> {
        match (self.shortcuts, &self.projection) {
            (Shortcuts::Plain, _) => PathAround::Nothing,
            (Shortcuts::Residual, None) => PathAround::Identity,
            (Shortcuts::Residual, Some(projection)) => PathAround::Projection(NormalizedLayer {
                convolution: projection.convolution.layer(),
                norm: &projection.norm,
            }),
        }
    }
}
