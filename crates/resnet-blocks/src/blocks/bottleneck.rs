//! The bottleneck block of He et al. 2015, figure 5 right: 1x1, 3x3, 1x1.

use burn::nn::BatchNorm;
use burn::prelude::*;

use crate::activation::Activation;
use crate::blocks::shortcut::{Shortcut, Shortcuts};
use crate::convolution::{Convolution, ConvolutionConfig};
use crate::dispatch::{fast_bottleneck, fast_bottleneck_and_next};
use crate::layers::{BottleneckLayers, NormalizedLayer};
use crate::norm::{NormConfig, norm_activate, norm_add_activate};
use crate::precision::Precision;
use crate::sampling::Sampling;

/// Configuration of a [`Bottleneck`].
#[derive(Config, Debug)]
pub struct BottleneckConfig {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the 3x3 convolution.
    pub width: usize,
    /// Output channels per channel of the 3x3 convolution. Default: 4.
    #[config(default = 4)]
    pub expansion: usize,
    /// Stride of the first 1x1 convolution and of the projection. Default: 1.
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

/// `activation(norm(expand(activation(norm(spatial(activation(norm(reduce(x)))))))) + shortcut(x))`.
///
/// The stride is in the first 1x1 convolution, as in the original paper (not in the 3x3 one, "v1.5").
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// 1x1 with the block's stride: `channels_in` to `width`.
    pub reduce: Convolution,
    /// Over `width` channels.
    pub reduce_norm: BatchNorm,
    /// 3x3: `width` to `width`.
    pub spatial: Convolution,
    /// Over `width` channels.
    pub spatial_norm: BatchNorm,
    /// 1x1: `width` to `expansion * width`.
    pub expand: Convolution,
    /// Over `expansion * width` channels.
    pub expand_norm: BatchNorm,
    /// The path around the convolutions.
    pub shortcut: Shortcut,
    /// After each norm.
    #[module(skip)]
    pub activation: Activation,
}

impl BottleneckConfig {
    /// Channels of the output.
    pub fn channels_out(&self) -> usize {
        self.expansion * self.width
    }

    /// Creates the block with Glorot-uniform weights and zero biases.
    ///
    /// # Panics
    /// If a channel count or the stride is zero.
    pub fn init(&self, device: &Device) -> Bottleneck {
        let (width, channels_out) = (self.width, self.channels_out());
        Bottleneck {
            reduce: ConvolutionConfig::new(self.channels_in, width)
                .with_stride(self.stride)
                .with_sampling(self.sampling)
                .with_precision(self.precision)
                .init(device),
            reduce_norm: self.norm.init(width, device),
            spatial: ConvolutionConfig::new(width, width)
                .with_kernel_size(3)
                .with_precision(self.precision)
                .init(device),
            spatial_norm: self.norm.init(width, device),
            expand: ConvolutionConfig::new(width, channels_out)
                .with_precision(self.precision)
                .init(device),
            expand_norm: self.norm.init(channels_out, device),
            shortcut: Shortcut::init(
                self.shortcuts,
                [self.channels_in, channels_out],
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

impl Bottleneck {
    /// Applies the block.
    ///
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, expansion * width, height / stride, width / stride]` rounded up, or
    ///   `[batch, expansion * width, height * stride, width * stride]` where transposed
    ///
    /// # Panics
    /// If the input has another number of channels.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fast_bottleneck(&self.layers(), &input).unwrap_or_else(|| self.forward_plain(input))
    }

    /// [`forward`](Self::forward), and then a 1x1 convolution. Evaluation on flex computes both in one pass, so that the block's own output, which
    /// may be many times as large as what comes of it, is never in memory as a whole.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward); the output has the convolution's channels and size.
    ///
    /// # Panics
    /// If the input, or the convolution's, has another number of channels.
    pub fn forward_then(&self, input: Tensor<4>, next: &Convolution) -> Tensor<4> {
        fast_bottleneck_and_next(&self.layers(), &next.layer(), &input)
            .unwrap_or_else(|| next.forward(self.forward(input)))
    }

    /// Layer by layer: what the fast forms compute too.
    fn forward_plain(&self, input: Tensor<4>) -> Tensor<4> {
        let activation = self.activation;
        let hidden = self.reduce.forward_plain(input.clone());
        let hidden = norm_activate(&self.reduce_norm, activation, hidden);
        let hidden = self.spatial.forward_plain(hidden);
        let hidden = norm_activate(&self.spatial_norm, activation, hidden);
        let hidden = self.expand.forward_plain(hidden);
        match self.shortcut.forward(input) {
            Some(residual) => norm_add_activate(&self.expand_norm, activation, hidden, residual),
            None => norm_activate(&self.expand_norm, activation, hidden),
        }
    }

    /// The layers as a form sees them.
    pub(crate) fn layers(&self) -> BottleneckLayers<'_> {
        fn normalized<'a>(
            convolution: &'a Convolution,
            norm: &'a BatchNorm,
        ) -> NormalizedLayer<'a> {
            NormalizedLayer {
                convolution: convolution.layer(),
                norm,
            }
        }
        BottleneckLayers {
            reduce: normalized(&self.reduce, &self.reduce_norm),
            spatial: normalized(&self.spatial, &self.spatial_norm),
            expand: normalized(&self.expand, &self.expand_norm),
            around: self.shortcut.layers(),
            activation: self.activation,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::dispatch::with_plain_blocks;

    #[test]
    fn a_layer_behind_a_block_goes_with_it_only_where_both_are_evaluated() {
        let (device, trained) = (Device::flex(), Device::flex().autodiff());
        let block = BottleneckConfig::new(4, 3).init(&device);
        let is_one_pass = |next: &Convolution, device: &Device| {
            let input = Tensor::ones([2, 4, 5, 5], device);
            fast_bottleneck_and_next(&block.layers(), &next.layer(), &input).is_some()
        };
        let next = ConvolutionConfig::new(12, 3);
        assert!(is_one_pass(&next.init(&device), &device));
        assert!(!is_one_pass(&next.init(&trained), &device));
        assert!(!is_one_pass(&next.init(&device), &trained));
        for other in [
            next.clone().with_kernel_size(3),
            next.clone().with_stride(2),
            next.clone().with_precision(Precision::Bf16),
            ConvolutionConfig::new(6, 3),
        ] {
            assert!(!is_one_pass(&other.init(&device), &device), "{other}");
        }
        assert!(!with_plain_blocks(|| is_one_pass(
            &next.init(&device),
            &device
        )));
    }

    #[test]
    fn a_layer_that_alone_is_trained_gets_its_gradient() {
        let (device, trained) = (Device::flex(), Device::flex().autodiff());
        let block = BottleneckConfig::new(4, 3).init(&device);
        let next = ConvolutionConfig::new(12, 3).init(&trained);
        let output = block.forward_then(Tensor::ones([2, 4, 5, 5], &device), &next);
        let gradients = output.sum().backward();
        let of_bias = next.bias.val().grad(&gradients).expect("a gradient");
        assert_eq!(
            of_bias.into_data().try_to_vec::<f32>().expect("float32"),
            [50.0; 3]
        );
    }
}
