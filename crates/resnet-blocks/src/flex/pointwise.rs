//! A 1x1 convolution of its own, with stride 1: products over pixels with channels fastest.

use burn_flex::FlexTensor;

use crate::flex::element::{Real, narrow, transpose};
use crate::flex::elementwise::{add_channels, centre};
use crate::flex::layout::{channels_last, dense, from_channels_last};
use crate::flex::partition::{Partition, for_each_chunk, total};
use crate::flex::product::{Factor, Mode, multiply};
use crate::operation::image_dims;

/// The layer's input and its weight, `[channels_out, channels_in, 1, 1]`; the first two exchanged where it is transposed.
pub(crate) struct Pointwise {
    pub(crate) input: FlexTensor,
    pub(crate) weight: FlexTensor,
    pub(crate) is_transposed: bool,
}

/// A layer behind a block, whose input comes from the block in pieces.
pub(crate) struct NextLayer<T> {
    /// `[channels_out, channels_in]`
    weight: Vec<T>,
    negative_bias: Vec<T>,
}

impl<T: Real> NextLayer<T> {
    /// From `[channels_out, channels_in, 1, 1]` and `[channels_out]`.
    pub(crate) fn new(weight: FlexTensor, bias: FlexTensor) -> Self {
        Self {
            weight: weight.to_contiguous().storage::<T>().to_vec(),
            negative_bias: negative(bias.to_contiguous().storage::<T>()),
        }
    }

    pub(crate) fn channels_out(&self) -> usize {
        self.negative_bias.len()
    }

    /// - input: `[pixels, channels_in]`
    /// - output: `[pixels, channels_out]`
    pub(crate) fn apply(&self, input: &[T], output: &mut [T]) {
        let channels_in = self.weight.len() / self.channels_out();
        apply(
            Factor::rows(&self.weight, channels_in),
            &self.negative_bias,
            input,
            output,
        );
    }
}

fn negative<T: Real>(values: &[T]) -> Vec<T> {
    values.iter().map(|value| T::ZERO - *value).collect()
}

/// The product of some pixels with the weights, `channels_out x channels_in`, and the biases.
fn apply<T: Real>(weight: Factor<T>, negative_bias: &[T], input: &[T], output: &mut [T]) {
    let channels_out = negative_bias.len();
    let pixels = output.len() / channels_out;
    let channels_in = input.len() / pixels;
    multiply(
        output,
        channels_out,
        [channels_out, pixels, channels_in],
        weight,
        Factor::columns(input, channels_in),
        Mode::Overwrite,
    );
    centre(output, negative_bias);
}

impl Pointwise {
    /// How far apart a weight's output and input channels are.
    fn strides(&self, channels_in: usize, channels_out: usize) -> (usize, usize) {
        if self.is_transposed {
            (1, channels_out)
        } else {
            (channels_in, 1)
        }
    }

    pub(crate) fn forward<T: Real>(&self, bias: &FlexTensor) -> FlexTensor {
        let [batch, channels_in, height, width] = image_dims(&self.input);
        let input = channels_last(self.input.clone());
        let (weight, bias) = (self.weight.to_contiguous(), bias.to_contiguous());
        let (weight, bias) = (weight.storage::<T>(), bias.storage::<T>());
        let channels_out = bias.len();
        assert_eq!(
            weight.len(),
            channels_in * channels_out,
            "the layer takes {} channels, not {channels_in}",
            weight.len() / channels_out
        );
        let negative = negative(bias);
        let (row_stride, column_stride) = self.strides(channels_in, channels_out);
        let mut output = vec![T::ZERO; batch * height * width * channels_out];
        let partition = Partition::new(batch, height * width);
        let chunks = partition
            .split(input.storage::<T>())
            .into_iter()
            .zip(partition.split_mut(&mut output))
            .collect();
        for_each_chunk(chunks, |(input, output): (&[T], &mut [T])| {
            let weight = Factor {
                data: weight,
                row_stride,
                column_stride,
            };
            apply(weight, &negative, input, output);
        });
        from_channels_last(output, [batch, height, width, channels_out])
    }

    /// The gradients of input (where it is wanted), weight and bias.
    pub(crate) fn gradients<T: Real>(
        &self,
        gradient: FlexTensor,
        is_input_wanted: bool,
    ) -> [Option<FlexTensor>; 3] {
        let [batch, channels_in, height, width] = image_dims(&self.input);
        let [_, channels_out, ..] = image_dims(&gradient);
        let (input, gradient) = (channels_last(self.input.clone()), channels_last(gradient));
        let weight = self.weight.to_contiguous();
        let weight = weight.storage::<T>();
        let (row_stride, column_stride) = self.strides(channels_in, channels_out);
        let mut input_gradient = vec![
            T::ZERO;
            if is_input_wanted {
                batch * height * width * channels_in
            } else {
                0
            }
        ];
        let partition = Partition::new(batch, height * width);
        let chunks = partition
            .split(input.storage::<T>())
            .into_iter()
            .zip(partition.split(gradient.storage::<T>()));
        let chunks = chunks
            .zip(partition.split_mut(&mut input_gradient))
            .collect();
        let sums = for_each_chunk(
            chunks,
            |((input, gradient), to): ((&[T], &[T]), &mut [T])| {
                let pixels = input.len() / channels_in;
                if !to.is_empty() {
                    multiply(
                        to,
                        channels_in,
                        [channels_in, pixels, channels_out],
                        Factor {
                            data: weight,
                            row_stride: column_stride,
                            column_stride: row_stride,
                        },
                        Factor::columns(gradient, channels_out),
                        Mode::Overwrite,
                    );
                }
                let mut of_weight = vec![T::ZERO; channels_out * channels_in];
                multiply(
                    &mut of_weight,
                    channels_in,
                    [channels_in, channels_out, pixels],
                    Factor::columns(input, channels_in),
                    Factor::rows(gradient, channels_out),
                    Mode::Overwrite,
                );
                let mut of_bias = vec![T::ZERO; channels_out];
                add_channels(gradient, &mut of_bias);
                (of_weight, of_bias)
            },
        );
        let of_weight = total(&sums, |(weight, _)| weight);
        let (of_weight, dims) = if self.is_transposed {
            (
                transpose(&of_weight, channels_out, channels_in),
                [channels_in, channels_out, 1, 1],
            )
        } else {
            (of_weight, [channels_out, channels_in, 1, 1])
        };
        let of_bias = total(&sums, |(_, bias)| bias);
        [
            is_input_wanted
                .then(|| from_channels_last(input_gradient, [batch, height, width, channels_in])),
            Some(dense::<T>(narrow(&of_weight), &dims)),
            Some(dense::<T>(narrow(&of_bias), &[channels_out])),
        ]
    }
}
