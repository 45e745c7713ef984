//! The upsampling bottleneck without its zeros, made of Burn's own operations: for every backend and both precisions.
//!
//! A transposed 1x1 convolution with stride `s` puts a product on every `s`-th row and column, the grid, and the bare bias
//! between. So the mean and the variance of its `s²` times as many pixels follow from those of the grid's, norm and activation
//! leave one constant a channel between the grid, and the 3x3 convolution of the whole is that of a constant image plus that of
//! the grid's differences from the constant: a transposed convolution of the small map, with a quarter of the arithmetic at
//! stride 2. Nothing is stored at the high resolution before the 3x3 convolution's output.

use burn::prelude::*;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode};

use crate::activation::Activation;
use crate::joining::join;
use crate::layers::{BottleneckLayers, ConvolutionLayer, NormalizedLayer, PathAround};
use crate::norm::{norm_activate, normalize, update_running};
use crate::sampling::Sampling;

/// Whether the block is one whose zeros can be left out.
pub(crate) fn has_zeros(block: &BottleneckLayers<'_>) -> bool {
    let is_upsampling = |layer: &ConvolutionLayer<'_>| {
        layer.sampling == Sampling::Transposed && layer.stride > 1 && layer.kernel_size == 1
    };
    let (reduce, spatial) = (&block.reduce.convolution, &block.spatial.convolution);
    let is_around = match &block.around {
        PathAround::Nothing => true,
        PathAround::Identity => false,
        PathAround::Projection(around) => {
            is_upsampling(&around.convolution) && around.convolution.stride == reduce.stride
        }
    };
    is_upsampling(reduce)
        && spatial.sampling == Sampling::Strided
        && (spatial.kernel_size, spatial.stride) == (3, 1)
        && is_around
}

/// What `Bottleneck::forward_plain` computes, where [`has_zeros`].
pub(crate) fn forward(block: &BottleneckLayers<'_>, input: Tensor<4>) -> Tensor<4> {
    let activation = block.activation;
    let reduced = Interleaved::normalized(&block.reduce, input.clone());
    let hidden = reduced
        .activate(activation)
        .convolve(&block.spatial.convolution);
    let hidden = norm_activate(block.spatial.norm, activation, hidden);
    let hidden = block.expand.convolution.forward_plain(hidden);
    let hidden = normalize(block.expand.norm, hidden);
    activation.forward(match &block.around {
        PathAround::Projection(around) => Interleaved::normalized(around, input).add_to(hidden),
        PathAround::Nothing | PathAround::Identity => hidden,
    })
}

/// An image that has a constant a channel everywhere but on the grid of every `stride`-th row and column.
struct Interleaved {
    /// On the grid: `[batch, channels, height, width]`.
    on_grid: Tensor<4>,
    /// Between: `[1, channels, 1, 1]`.
    between: Tensor<4>,
    stride: usize,
}

impl Interleaved {
    /// `norm(layer(input))` of a transposed 1x1 convolution, with its batch's statistics and an update of the running ones in
    /// training, and the running ones otherwise.
    fn normalized(layer: &NormalizedLayer<'_>, input: Tensor<4>) -> Self {
        let (layer, norm) = (&layer.convolution, layer.norm);
        let channels = layer.channels_out();
        let each = |values: Tensor<1>| values.reshape([1, channels, 1, 1]);
        let product = pointwise(layer, input);
        // As every norm does, by what it is given: weights on an autodiff device make it so.
        let device = product.device();
        let is_training = device.is_autodiff() && norm.training.is_enabled();
        let bias = each(layer.bias.val());
        // Of all pixels, one in `stride²` is on the grid.
        let share = ((layer.stride * layer.stride) as f64).recip();

        // The grid's values are `centred + centre`, which a product far from zero needs for its precision.
        let (centred, centre, mean, variance) = if is_training {
            let centre = product.clone().mean_dims(&[3, 2, 0]);
            let centred = product - centre.clone();
            let grid_variance = centred.clone().square().mean_dims(&[3, 2, 0]);
            let mean = bias.clone() + centre.clone().mul_scalar(share);
            let variance = grid_variance.mul_scalar(share)
                + centre.clone().square().mul_scalar(share * (1.0 - share));
            let flat = |values: &Tensor<4>| values.clone().reshape([channels]);
            let [batch, _, height, width] = centred.dims();
            let count = batch * height * width * layer.stride * layer.stride;
            update_running(norm, &flat(&mean), &flat(&variance), count);
            (centred, centre, mean, variance)
        } else {
            let centre = Tensor::zeros_like(&bias);
            let running = |values: Tensor<1>| each(values.to_device(&device));
            let mean = running(norm.running_mean.value());
            (product, centre, mean, running(norm.running_var.value()))
        };
        let scale = each(norm.gamma.val()) / variance.add_scalar(norm.epsilon).sqrt();
        // What a pixel of nothing but the bias becomes.
        let between = each(norm.beta.val()) + scale.clone() * (bias - mean);
        Self {
            on_grid: centred * scale.clone() + (between.clone() + scale * centre),
            between,
            stride: layer.stride,
        }
    }

    fn activate(self, activation: Activation) -> Self {
        Self {
            on_grid: activation.forward(self.on_grid),
            between: activation.forward(self.between),
            stride: self.stride,
        }
    }

    /// The output of a 3x3 convolution of the whole image: `[batch, channels_out, height * stride, width * stride]`.
    fn convolve(self, layer: &ConvolutionLayer<'_>) -> Tensor<4> {
        let (precision, dtype) = (layer.precision, self.on_grid.dtype());
        let weight = precision.round(layer.weight.val(), dtype);
        let [.., height, width] = self.on_grid.dims();
        let size = [height, width].map(|size| size * self.stride);

        // Corners, edges and the inside: a constant image's output has no other values.
        let smallest = size.map(|size| size.min(3));
        let [_, channels, ..] = self.between.dims();
        let constant = precision.round(self.between.clone(), dtype).expand([
            1,
            channels,
            smallest[0],
            smallest[1],
        ]);
        let same_size = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let of_constant = conv2d(constant, weight.clone(), None, same_size);
        let bias = layer.bias.val().reshape([1, layer.channels_out(), 1, 1]);
        let of_constant = precision.round(of_constant, dtype) + bias;
        let of_constant = with_long_middle(with_long_middle(of_constant, 2, size[0]), 3, size[1]);

        // A convolution of the interleaved image is a transposed one of the grid, by the kernel seen from the other side.
        let kernel = weight.swap_dims(0, 1).flip([2, 3]);
        let options =
            ConvTransposeOptions::new([self.stride; 2], [1, 1], [self.stride - 1; 2], [1, 1], 1);
        let differences = precision.round(self.on_grid - self.between, dtype);
        let of_differences = conv_transpose2d(differences, kernel, None, options);
        precision.round(of_differences, dtype) + of_constant
    }

    /// The sum with an image of full size.
    fn add_to(self, image: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = self.on_grid.dims();
        let stride = self.stride;
        let differences = self.on_grid - self.between.clone();
        let outside = (0, stride - 1);
        let differences: Tensor<4> = differences
            .reshape([batch, channels, height, 1, width, 1])
            .pad([outside, (0, 0), outside], PadMode::Constant(0.0))
            .reshape([batch, channels, height * stride, width * stride]);
        image + differences + self.between
    }
}

/// The products of a transposed 1x1 convolution, without its bias and the pixels between them.
fn pointwise(layer: &ConvolutionLayer<'_>, input: Tensor<4>) -> Tensor<4> {
    let (precision, dtype) = (layer.precision, input.dtype());
    let weight = precision.round(layer.weight.val(), dtype).swap_dims(0, 1);
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let product = conv2d(precision.round(input, dtype), weight, None, options);
    precision.round(product, dtype)
}

/// The tensor with its second of three slices repeated until there are `length`; as it is where it has fewer than three.
fn with_long_middle(tensor: Tensor<4>, dim: usize, length: usize) -> Tensor<4> {
    if tensor.dims()[dim] < 3 {
        return tensor;
    }
    let [first, middle, last] = [0, 1, 2].map(|index| tensor.clone().narrow(dim, index, 1));
    let mut dims = middle.dims();
    dims[dim] = length - 2;
    join(vec![first, middle.expand(dims), last], dim)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
