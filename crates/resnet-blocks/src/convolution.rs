//! Convolutions whose output is exactly the input size divided, or multiplied, by the stride.

use burn::module::Param;
use burn::prelude::*;

use crate::dispatch::fast_convolution;
use crate::initialization::glorot_uniform;
use crate::layers::ConvolutionLayer;
use crate::precision::Precision;
use crate::sampling::Sampling;

/// Configuration of a [`Convolution`].
#[derive(Config, Debug)]
pub struct ConvolutionConfig {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Height and width of the kernel; odd. Default: 1.
    #[config(default = 1)]
    pub kernel_size: usize,
    /// Distance between sampled pixels; at least 1. Default: 1.
    #[config(default = 1)]
    pub stride: usize,
    /// Direction of the stride. Default: strided.
    #[config(default = "Sampling::Strided")]
    pub sampling: Sampling,
    /// Type of the product. Default: that of the parameters.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
}

/// A two-dimensional convolution with bias and "same" padding, or its transpose.
///
/// The padding is `(kernel_size - 1) / 2` on every side. The transposed form adds `stride - 1` rows
/// and columns at the bottom and right, so that its output is exactly `stride` times its input; with
/// kernel 1 that puts each value on a multiple of the stride and the bare bias everywhere else.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[channels_out, channels_in, kernel, kernel]`, or `[channels_in, channels_out, kernel, kernel]`
    /// where the convolution is transposed.
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub bias: Param<Tensor<1>>,
    /// Distance between sampled pixels.
    pub stride: usize,
    /// Height and width of the kernel.
    pub kernel_size: usize,
    /// Direction of the stride.
    #[module(skip)]
    pub sampling: Sampling,
    /// Type of the product.
    #[module(skip)]
    pub precision: Precision,
}

impl ConvolutionConfig {
    /// Creates the layer with Glorot-uniform weights and zero bias.
    ///
    /// # Panics
    /// If a channel count or the stride is zero, or the kernel size is even.
    pub fn init(&self, device: &Device) -> Convolution {
        assert!(
            self.channels_in > 0 && self.channels_out > 0,
            "a convolution needs at least one channel on each side, not {} to {}",
            self.channels_in,
            self.channels_out
        );
        assert!(self.stride > 0, "a convolution's stride is at least 1");
        assert!(
            self.kernel_size % 2 == 1,
            "\"same\" padding needs an odd kernel size, not {}",
            self.kernel_size
        );
        let [rows, columns] = match self.sampling {
            Sampling::Strided => [self.channels_out, self.channels_in],
            Sampling::Transposed => [self.channels_in, self.channels_out],
        };
        Convolution {
            weight: glorot_uniform([rows, columns, self.kernel_size, self.kernel_size], device),
            bias: Param::from_tensor(Tensor::zeros([self.channels_out], device)),
            stride: self.stride,
            kernel_size: self.kernel_size,
            sampling: self.sampling,
            precision: self.precision,
        }
    }
}

impl Convolution {
    /// Channels of the input.
    pub fn channels_in(&self) -> usize {
        self.layer().channels_in()
    }

    /// Channels of the output.
    pub fn channels_out(&self) -> usize {
        self.layer().channels_out()
    }

    /// Applies the convolution.
    ///
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]` rounded up, or
    ///   `[batch, channels_out, height * stride, width * stride]` where transposed
    ///
    /// # Panics
    /// If the input has another number of channels.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fast_convolution(&self.layer(), &input).unwrap_or_else(|| self.forward_plain(input))
    }

    /// By Burn's own convolutions: what the fast form computes too.
    pub(crate) fn forward_plain(&self, input: Tensor<4>) -> Tensor<4> {
        self.layer().forward_plain(input)
    }

    /// The layer as a form sees it.
    pub(crate) fn layer(&self) -> ConvolutionLayer<'_> {
        ConvolutionLayer {
            weight: &self.weight,
            bias: &self.bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            sampling: self.sampling,
            precision: self.precision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn output_size_is_the_input_size_over_or_times_the_stride(
            channels in (1usize..5, 1usize..5), stride in 1usize..5, size in (1usize..9, 1usize..9),
            kernel in prop::sample::select(vec![1usize, 3, 5]), transposed: bool,
        ) {
            let device = Device::flex();
            let sampling = if transposed { Sampling::Transposed } else { Sampling::Strided };
            let layer = ConvolutionConfig::new(channels.0, channels.1)
                .with_kernel_size(kernel).with_stride(stride).with_sampling(sampling)
                .init(&device);
            prop_assert_eq!(layer.channels_in(), channels.0);
            prop_assert_eq!(layer.channels_out(), channels.1);
            let output = layer.forward(Tensor::ones([2, channels.0, size.0, size.1], &device));
            let expected = if transposed {
                [2, channels.1, size.0 * stride, size.1 * stride]
            } else {
                [2, channels.1, size.0.div_ceil(stride), size.1.div_ceil(stride)]
            };
            prop_assert_eq!(output.dims(), expected);
        }

        #[test]
        fn a_transposed_pointwise_convolution_is_exact_for_any_stride(
            stride in 1usize..6, height in 1usize..5, width in 1usize..5, value in -3.0f32..3.0, bias in -3.0f32..3.0,
        ) {
            let device = Device::flex();
            let mut layer = ConvolutionConfig::new(1, 1)
                .with_stride(stride).with_sampling(Sampling::Transposed).init(&device);
            layer.weight = Param::from_tensor(Tensor::full([1, 1, 1, 1], 2.0, &device));
            layer.bias = Param::from_tensor(Tensor::full([1], bias, &device));
            let output = layer.forward(Tensor::full([1, 1, height, width], value, &device));
            let output = output.into_data().try_to_vec::<f32>().expect("float32 values");
            for (index, found) in output.into_iter().enumerate() {
                let (row, column) = (index / (width * stride), index % (width * stride));
                let on_grid = row % stride == 0 && column % stride == 0;
                let expected = if on_grid { 2.0 * value + bias } else { bias };
                prop_assert!((found - expected).abs() < 1e-6, "row {row}, column {column}: {found}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "odd kernel size")]
    fn an_even_kernel_is_refused() {
        ConvolutionConfig::new(1, 1)
            .with_kernel_size(2)
            .init(&Device::flex());
    }
}
