//! The basic block of He et al. 2015, figure 5 left: two 3x3 convolutions.

use burn::nn::BatchNorm;
use burn::prelude::*;

use crate::activation::Activation;
use crate::blocks::shortcut::{Shortcut, Shortcuts};
use crate::convolution::{Convolution, ConvolutionConfig};
use crate::norm::{NormConfig, norm_activate, norm_add_activate};
use crate::precision::Precision;
use crate::sampling::Sampling;

/// Configuration of a [`BasicBlock`].
#[derive(Config, Debug)]
pub struct BasicBlockConfig {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the output.
    pub width: usize,
    /// Stride of the first convolution and of the projection. Default: 1.
    #[config(default = 1)]
    pub stride: usize,
    /// Direction of the stride. Default: strided.
    #[config(default = "Sampling::Strided")]
    pub sampling: Sampling,
    /// With or without shortcut. Default: with.
    #[config(default = "Shortcuts::Residual")]
    pub shortcuts: Shortcuts,
    /// Epsilon and momentum of every norm.
    #[config(default = "NormConfig::new()")]
    pub norm: NormConfig,
    /// After each norm. Default: ReLU.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Type of every convolution's product. Default: that of the parameters.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
}

/// `activation(norm(second(activation(norm(first(x))))) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// 3x3 with the block's stride: `channels_in` to `width`.
    pub first: Convolution,
    /// Over `width` channels.
    pub first_norm: BatchNorm,
    /// 3x3: `width` to `width`.
    pub second: Convolution,
    /// Over `width` channels.
    pub second_norm: BatchNorm,
    /// The path around the convolutions.
    pub shortcut: Shortcut,
    /// After each norm.
    #[module(skip)]
    pub activation: Activation,
}

impl BasicBlockConfig {
    /// Channels of the output.
    pub fn channels_out(&self) -> usize {
        self.width
    }

    /// Creates the block with Glorot-uniform weights and zero biases.
    ///
    /// # Panics
    /// If a channel count or the stride is zero.
    pub fn init(&self, device: &Device) -> BasicBlock {
        let width = self.width;
        BasicBlock {
            first: ConvolutionConfig::new(self.channels_in, width)
                .with_kernel_size(3)
                .with_stride(self.stride)
                .with_sampling(self.sampling)
                .with_precision(self.precision)
                .init(device),
            first_norm: self.norm.init(width, device),
            second: ConvolutionConfig::new(width, width)
                .with_kernel_size(3)
                .with_precision(self.precision)
                .init(device),
            second_norm: self.norm.init(width, device),
            shortcut: Shortcut::init(
                self.shortcuts,
                [self.channels_in, width],
                self.stride,
                self.sampling,
                self.precision,
                &self.norm,
                device,
            ),
            activation: self.activation,
        }
    }
}

impl BasicBlock {
    /// Applies the block.
    ///
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, width, height / stride, width / stride]` rounded up, or
    ///   `[batch, width, height * stride, width * stride]` where transposed
    ///
    /// # Panics
    /// If the input has another number of channels.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let activation = self.activation;
        let hidden = self.first.forward_plain(input.clone());
        let hidden = norm_activate(&self.first_norm, activation, hidden);
        let hidden = self.second.forward_plain(hidden);
        match self.shortcut.forward(input) {
            Some(residual) => norm_add_activate(&self.second_norm, activation, hidden, residual),
            None => norm_activate(&self.second_norm, activation, hidden),
        }
    }
}
