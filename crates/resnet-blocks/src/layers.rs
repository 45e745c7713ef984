//! A block's layers as every form of it sees them: borrowed, without the block around them.
//!
//! A form (`flex/`, `upsampling.rs`) reads parameters and sizes from these views and never names the block, so that blocks know
//! their forms and no form knows a block.

use burn::module::Param;
use burn::nn::BatchNorm;
use burn::prelude::*;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::activation::Activation;
use crate::precision::Precision;
use crate::sampling::Sampling;

/// A convolution's parameters and sizes; see [`Convolution`](crate::Convolution).
#[derive(Clone, Copy)]
pub(crate) struct ConvolutionLayer<'a> {
    pub(crate) weight: &'a Param<Tensor<4>>,
    pub(crate) bias: &'a Param<Tensor<1>>,
    pub(crate) stride: usize,
    pub(crate) kernel_size: usize,
    pub(crate) sampling: Sampling,
    pub(crate) precision: Precision,
}

/// A convolution and the norm behind it.
#[derive(Clone, Copy)]
pub(crate) struct NormalizedLayer<'a> {
    pub(crate) convolution: ConvolutionLayer<'a>,
    pub(crate) norm: &'a BatchNorm,
}

/// The path around a bottleneck's convolutions.
#[derive(Clone, Copy)]
pub(crate) enum PathAround<'a> {
    /// None: a plain network.
    Nothing,
    /// The input itself.
    Identity,
    /// A 1x1 convolution and its norm.
    Projection(NormalizedLayer<'a>),
}

/// All layers of a bottleneck; see [`Bottleneck`](crate::Bottleneck).
#[derive(Clone, Copy)]
pub(crate) struct BottleneckLayers<'a> {
    pub(crate) reduce: NormalizedLayer<'a>,
    pub(crate) spatial: NormalizedLayer<'a>,
    pub(crate) expand: NormalizedLayer<'a>,
    pub(crate) around: PathAround<'a>,
    pub(crate) activation: Activation,
}

impl ConvolutionLayer<'_> {
    /// Channels of the input.
    pub(crate) fn channels_in(&self) -> usize {
        let [rows, columns, _, _] = self.weight.shape().dims();
        match self.sampling {
            Sampling::Strided => columns,
            Sampling::Transposed => rows,
        }
    }

    /// Channels of the output.
    pub(crate) fn channels_out(&self) -> usize {
        let [channels] = self.bias.shape().dims();
        channels
    }

    /// The plain form, by Burn's own convolutions: what every fast form computes too.
    pub(crate) fn forward_plain(&self, input: Tensor<4>) -> Tensor<4> {
        let padding = (self.kernel_size - 1) / 2;
        let stride = [self.stride; 2];
        let dtype = input.dtype();
        let weight = self.weight.val();
        let own = weight.dtype();
        let input = self.precision.round(input, own);
        let weight = self.precision.round(weight, own);
        let bias = match self.precision {
            Precision::F32 => Some(self.bias.val()),
            Precision::Bf16 => None,
        };
        let output = match self.sampling {
            Sampling::Strided => {
                let options = ConvOptions::new(stride, [padding; 2], [1, 1], 1);
                conv2d(input, weight, bias, options)
            }
            Sampling::Transposed => {
                let outside = [self.stride - 1; 2];
                let options = ConvTransposeOptions::new(stride, [padding; 2], outside, [1, 1], 1);
                conv_transpose2d(input, weight, bias, options)
            }
        };
        match self.precision {
            Precision::F32 => output,
            Precision::Bf16 => {
                let bias = self.bias.val().reshape([1, self.channels_out(), 1, 1]);
                self.precision.round(output, dtype) + bias
            }
        }
    }
}
