//! What forward and backward of a bottleneck share: sizes, parameters, and elementwise passes over `[.., channels]`.

use burn_flex::FlexTensor;

use crate::flex::element::{Real, narrow, transpose};
use crate::flex::elementwise::activate;
use crate::flex::interleaved::Grid;
use crate::flex::layout::{image_dims, wide_values};
use crate::flex::normalization::Normalization;
use crate::flex::spatial::Image;

/// The path around a block's convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    Nothing,
    Identity,
    Projection,
}

/// What a bottleneck's parameters do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConfig {
    pub(crate) stride: usize,
    pub(crate) is_transposed: bool,
    pub(crate) around: Around,
    /// Of the norms behind reduce, spatial, expand and shortcut.
    pub(crate) epsilon: [f64; 4],
}

/// Positions of a bottleneck's tensors among its inputs; the gradients have the same order. Every layer has four: weight,
/// bias, gamma, beta.
pub(crate) mod position {
    pub(crate) const INPUT: usize = 0;
    pub(crate) const REDUCE: usize = 1;
    pub(crate) const SPATIAL: usize = 5;
    pub(crate) const EXPAND: usize = 9;
    pub(crate) const SHORTCUT: usize = 13;
}

/// The sizes of a bottleneck's maps. The low resolution is that of the reduce product: the output's where the block is
/// strided, the input's where it is transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) channels_in: usize,
    pub(crate) width: usize,
    pub(crate) channels_out: usize,
    pub(crate) input: [usize; 2],
    pub(crate) low: [usize; 2],
    pub(crate) output: [usize; 2],
    /// Input pixels per low-resolution pixel in each direction.
    pub(crate) down: usize,
    /// Output pixels per low-resolution pixel in each direction.
    pub(crate) up: usize,
}

impl Sizes {
    pub(crate) fn new(config: &BlockConfig, inputs: &[FlexTensor]) -> Self {
        let [batch, channels_in, height, width] = image_dims(&inputs[position::INPUT]);
        let input = [height, width];
        let (down, up) = if config.is_transposed {
            (1, config.stride)
        } else {
            (config.stride, 1)
        };
        let low = input.map(|length| length.div_ceil(down));
        let channels = |at: usize| inputs[at + 1].layout().num_elements();
        let weight = image_dims(&inputs[position::REDUCE]);
        let weight_in = if config.is_transposed {
            weight[0]
        } else {
            weight[1]
        };
        assert_eq!(
            weight_in, channels_in,
            "the block takes {weight_in} channels, not {channels_in}"
        );
        Self {
            batch,
            channels_in,
            width: channels(position::REDUCE),
            channels_out: channels(position::EXPAND),
            input,
            low,
            output: low.map(|length| length * up),
            down,
            up,
        }
    }

    pub(crate) fn low_pixels(&self) -> usize {
        self.low[0] * self.low[1]
    }

    pub(crate) fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Output positions per low-resolution position.
    pub(crate) fn spread(&self) -> f64 {
        (self.up * self.up) as f64
    }

    /// The image that the 3x3 convolution sees where it is not interleaved.
    pub(crate) fn image(&self) -> Image {
        Image {
            height: self.low[0],
            width: self.low[1],
            channels: self.width,
        }
    }

    /// The grid that it sees where it is.
    pub(crate) fn grid(&self) -> Grid {
        Grid {
            low: self.image(),
            stride: self.up,
        }
    }

    /// Low-resolution rows of one part in pieces whose output stays in the cache.
    pub(crate) fn row_tiles(
        &self,
        low_len: usize,
    ) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        const VALUES: usize = 32 * 1024;
        let rows = low_len / self.low[1];
        let step = (VALUES / (self.channels_out * self.up * self.output[1])).max(1);
        (0..rows)
            .step_by(step)
            .map(move |start| start..rows.min(start + step))
    }
}

/// A layer's parameters, widened.
pub(crate) struct Layer {
    /// Pointwise: `[channels_out, channels_in]`. Spatial: as it is.
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
    pub(crate) gamma: Vec<f64>,
    pub(crate) beta: Vec<f64>,
}

impl Layer {
    /// Reads the four tensors from `at` on; `is_exchanged` where the weight is `[channels_in, channels_out, 1, 1]`.
    pub(crate) fn read<T: Real>(inputs: &[FlexTensor], at: usize, is_exchanged: bool) -> Self {
        let [weight, bias, gamma, beta] =
            std::array::from_fn(|index| wide_values::<T>(&inputs[at + index]));
        let weight = if is_exchanged {
            transpose(&weight, weight.len() / bias.len(), bias.len())
        } else {
            weight
        };
        Self {
            weight,
            bias,
            gamma,
            beta,
        }
    }

    /// The mean that a norm reports: of the convolution with its bias.
    pub(crate) fn reported_mean(&self, norm: &Normalization) -> Vec<f64> {
        norm.mean
            .iter()
            .zip(&self.bias)
            .map(|(mean, bias)| mean + bias)
            .collect()
    }
}

/// Scale and shift a channel in the element type, and the mean that backward centres with.
#[derive(Clone, Debug)]
pub(crate) struct Affine<T> {
    pub(crate) scale: Vec<T>,
    pub(crate) shift: Vec<T>,
    pub(crate) mean: Vec<T>,
}

impl<T: Real> Affine<T> {
    pub(crate) fn new(norm: &Normalization) -> Self {
        Self {
            scale: narrow(&norm.scale),
            shift: narrow(&norm.shift),
            mean: narrow(&norm.mean),
        }
    }

    /// `relu(scale * value + shift)` of whole pixels.
    pub(crate) fn activate(&self, values: &[T], output: &mut [T]) {
        activate(values, &self.scale, &self.shift, output);
    }
}

/// The pixels of whole images that a stride samples, from `[.., height, width, channels]`.
pub(crate) fn sample<T: Real>(sizes: &Sizes, images: &[T], output: &mut [T]) {
    let (channels, [height, width], [_, low_width]) = (sizes.channels_in, sizes.input, sizes.low);
    let mut rows = output.chunks_exact_mut(low_width * channels);
    for image in images.chunks_exact(height * width * channels) {
        for row in image.chunks_exact(width * channels).step_by(sizes.down) {
            let output = rows.next().expect("as many rows as the stride samples");
            for (from, to) in row
                .chunks_exact(channels)
                .step_by(sizes.down)
                .zip(output.chunks_exact_mut(channels))
            {
                to.copy_from_slice(from);
            }
        }
    }
}

/// The opposite of [`sample`]: values to the sampled pixels, the others stay.
pub(crate) fn spread<T: Real>(sizes: &Sizes, values: &[T], images: &mut [T]) {
    let (channels, [height, width], [_, low_width]) = (sizes.channels_in, sizes.input, sizes.low);
    let mut rows = values.chunks_exact(low_width * channels);
    for image in images.chunks_exact_mut(height * width * channels) {
        for row in image.chunks_exact_mut(width * channels).step_by(sizes.down) {
            let values = rows.next().expect("as many rows as the stride samples");
            for (to, from) in row
                .chunks_exact_mut(channels)
                .step_by(sizes.down)
                .zip(values.chunks_exact(channels))
            {
                to.copy_from_slice(from);
            }
        }
    }
}
