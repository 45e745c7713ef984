//! The 3x3 convolution of one image, its channels fastest, as three products over windows of the padded image.
//!
//! Where rows keep their padded length, the three neighbours of a pixel in a row are adjacent, and so are the windows of
//! consecutive pixels but for their overlap: one product a kernel row, `depth = 3 channels`, reads them in place. The two
//! pixels between the end of one row and the start of the next give outputs that nobody reads.

use crate::flex::element::Real;
use crate::flex::product::{Factor, Mode, multiply};

/// Height, width and channels of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Image {
    /// Values of the image with a border of one pixel.
    pub(crate) fn padded_len(&self) -> usize {
        (self.height + 2) * (self.width + 2) * self.channels
    }

    /// Outputs from the first pixel to the last, those between rows included.
    fn outputs(&self) -> usize {
        self.height * (self.width + 2) - 2
    }

    /// Values of the output of [`convolve`].
    pub(crate) fn output_len(&self) -> usize {
        self.outputs() * self.channels
    }

    /// Where a row of the image starts in its padded form, and how many values it has.
    pub(crate) fn padded_row(&self, row: usize) -> std::ops::Range<usize> {
        let start = ((row + 1) * (self.width + 2) + 1) * self.channels;
        start..start + self.width * self.channels
    }

    /// Where a row of the image starts in the output of [`convolve`].
    pub(crate) fn output_row(&self, row: usize) -> std::ops::Range<usize> {
        let start = row * (self.width + 2) * self.channels;
        start..start + self.width * self.channels
    }
}

/// The weights of a 3x3 convolution in the order that products read them.
#[derive(Clone, Debug)]
pub(crate) struct Kernel<T> {
    /// `[3, 3, channels_in, channels_out]`
    pub(crate) forward: Vec<T>,
    /// Flipped in both directions, `[3, 3, channels_out, channels_in]`: the convolution of the gradient.
    pub(crate) backward: Vec<T>,
}

impl<T: Real> Kernel<T> {
    /// From `[channels, channels, 3, 3]`, outputs first.
    pub(crate) fn new(weight: &[T], channels: usize) -> Self {
        assert_eq!(weight.len(), 9 * channels * channels);
        let square = channels * channels;
        let [mut forward, mut backward] = [0, 1].map(|_| vec![T::ZERO; weight.len()]);
        for (index, taps) in weight.chunks_exact(9).enumerate() {
            let (output, input) = (index / channels, index % channels);
            for (tap, value) in taps.iter().enumerate() {
                forward[tap * square + input * channels + output] = *value;
                backward[(8 - tap) * square + output * channels + input] = *value;
            }
        }
        Self { forward, backward }
    }

    /// `[channels, channels, 3, 3]` from the order of [`forward`](Self::forward).
    pub(crate) fn restore<U: Copy + Default>(values: &[U], channels: usize) -> Vec<U> {
        let mut weight = vec![U::default(); values.len()];
        for (index, value) in values.iter().enumerate() {
            let (tap, input, output) = (
                index / (channels * channels),
                index / channels % channels,
                index % channels,
            );
            weight[(output * channels + input) * 9 + tap] = *value;
        }
        weight
    }
}

/// The convolution of a padded image; see [`Image::output_row`] for where its rows are.
pub(crate) fn convolve<T: Real>(image: Image, padded: &[T], kernel: &[T], output: &mut [T]) {
    let channels = image.channels;
    let row = (image.width + 2) * channels;
    for (index, taps) in kernel.chunks_exact(3 * channels * channels).enumerate() {
        multiply(
            output,
            channels,
            [channels, image.outputs(), 3 * channels],
            Factor::columns(taps, channels),
            Factor::columns(&padded[index * row..], channels),
            if index == 0 {
                Mode::Overwrite
            } else {
                Mode::Accumulate
            },
        );
    }
}

/// Adds the gradient of the weights, in the order of [`Kernel::forward`].
///
/// The border of `padded_gradient` is zero, so that the outputs between rows count for nothing.
pub(crate) fn add_weight_gradient<T: Real>(
    image: Image,
    padded: &[T],
    padded_gradient: &[T],
    total: &mut [T],
) {
    let channels = image.channels;
    let row = (image.width + 2) * channels;
    for (index, taps) in total.chunks_exact_mut(3 * channels * channels).enumerate() {
        multiply(
            taps,
            channels,
            [channels, 3 * channels, image.outputs()],
            Factor::columns(&padded_gradient[row + channels..], channels),
            Factor::rows(&padded[index * row..], channels),
            Mode::Accumulate,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f64> {
        (0..len)
            .map(|index| ((index * 7919 + seed * 104729) % 1009) as f64 / 500.0 - 1.0)
            .collect()
    }

    #[test]
    fn convolution_and_its_gradients_match_their_definition() {
        for (height, width, channels) in [(1, 1, 1), (1, 3, 2), (4, 2, 3), (5, 5, 4)] {
            let image = Image {
                height,
                width,
                channels,
            };
            let weight = values(9 * channels * channels, 1);
            let (pixels, gradient) = (
                values(height * width * channels, 2),
                values(height * width * channels, 3),
            );
            let pad = |values: &[f64]| {
                let mut padded = vec![0.0; image.padded_len()];
                for (row, values) in values.chunks(width * channels).enumerate() {
                    padded[image.padded_row(row)].copy_from_slice(values);
                }
                padded
            };
            let (padded, padded_gradient) = (pad(&pixels), pad(&gradient));
            let kernel = Kernel::new(&weight, channels);
            let mut output = vec![0.0; image.output_len()];
            convolve(image, &padded, &kernel.forward, &mut output);
            let mut input_gradient = vec![0.0; image.output_len()];
            convolve(
                image,
                &padded_gradient,
                &kernel.backward,
                &mut input_gradient,
            );
            let mut weight_gradient = vec![0.0; weight.len()];
            add_weight_gradient(image, &padded, &padded_gradient, &mut weight_gradient);
            let weight_gradient = Kernel::<f64>::restore(&weight_gradient, channels);

            let (mut expected, mut expected_input) =
                (vec![0.0; pixels.len()], vec![0.0; pixels.len()]);
            let mut expected_weight = vec![0.0; weight.len()];
            for y in 0..height {
                for x in 0..width {
                    for (tap, (i, j)) in (0..9).map(|tap| (tap, (y + tap / 3, x + tap % 3))) {
                        if i == 0 || j == 0 || i > height || j > width {
                            continue;
                        }
                        for o in 0..channels {
                            for c in 0..channels {
                                let at = (o * channels + c) * 9 + tap;
                                let (to, from) = (
                                    (y * width + x) * channels + o,
                                    ((i - 1) * width + j - 1) * channels + c,
                                );
                                expected[to] += weight[at] * pixels[from];
                                expected_input[from] += weight[at] * gradient[to];
                                expected_weight[at] += gradient[to] * pixels[from];
                            }
                        }
                    }
                }
            }
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
            for row in 0..height {
                let plain = row * width * channels..(row + 1) * width * channels;
                assert!(close(
                    &output[image.output_row(row)],
                    &expected[plain.clone()]
                ));
                assert!(close(
                    &input_gradient[image.output_row(row)],
                    &expected_input[plain]
                ));
            }
            assert!(close(&weight_gradient, &expected_weight));
        }
    }
}
