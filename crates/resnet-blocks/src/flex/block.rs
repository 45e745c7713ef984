//! What forward and backward of a bottleneck share: sizes, parameters, and elementwise passes over `[.., channels]`.

use burn_flex::FlexTensor;

use crate::flex::element::{Real, narrow, transpose};
use crate::flex::elementwise::activate;
use crate::flex::interleaved::Grid;
use crate::flex::layout::wide_values;
use crate::flex::spatial::Image;
use crate::flex::statistics::normalization::Normalization;
use crate::operation::Sizes;

/// What the kernels see of a block's sizes.
impl Sizes {
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

    /// Low-resolution rows of one chunk in pieces whose output stays in the cache.
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
