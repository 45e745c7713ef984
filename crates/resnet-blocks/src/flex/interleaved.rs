//! The 3x3 convolution of an image that is one constant a channel except on a grid.
//!
//! After a transposed 1x1 convolution with stride `s`, norm and ReLU, pixel `(y, x)` is the value of low-resolution pixel
//! `(y / s, x / s)` where both are multiples of `s` and the constant elsewhere. Its convolution is that of the constant
//! image, which has nine different values a channel (corners, edges, inside), plus that of the low-resolution differences
//! to the constant: every output phase `(y mod s, x mod s)` sees at most four of them and the nine taps are used once
//! each, where the plain form uses them `s^2` times. Nothing is stored at the high resolution but the output.

use crate::flex::element::Real;
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::spatial::Image;

/// Which rows and columns of the output are at a border: first, between, last.
const CLASSES: usize = 3;
/// Corners, edges and inside of an image.
pub(crate) const REGIONS: usize = CLASSES * CLASSES;

/// One tap of the kernel as one output phase sees it.
#[derive(Clone, Copy, Debug)]
struct Tap {
    /// Row and column of the kernel as one index.
    index: usize,
    /// The low-resolution pixel that it reads, relative to the output's own.
    down: usize,
    right: usize,
}

/// A low-resolution image and how far apart its pixels stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) low: Image,
    /// At least 2.
    pub(crate) stride: usize,
}

/// The rows (or columns) of the kernel that reach a grid line from output phase `phase`, each with the distance.
fn reaching(phase: usize, stride: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..3)
        .filter(move |tap| (phase + tap + stride - 1).is_multiple_of(stride))
        .map(move |tap| (tap, (phase + tap) / (stride + 1)))
}

impl Grid {
    /// Values of the low-resolution image with a row and a column of zeros at the end.
    pub(crate) fn padded_len(&self) -> usize {
        (self.low.height + 1) * (self.low.width + 1) * self.low.channels
    }

    /// Where a row of the low-resolution image is in its padded form.
    pub(crate) fn padded_row(&self, row: usize) -> std::ops::Range<usize> {
        let start = row * (self.low.width + 1) * self.low.channels;
        start..start + self.low.width * self.low.channels
    }

    /// Values of the outputs of one phase: rows keep their padded length.
    pub(crate) fn phase_len(&self) -> usize {
        (self.low.height * (self.low.width + 1) - 1) * self.low.channels
    }

    fn outputs(&self) -> usize {
        self.low.height * (self.low.width + 1) - 1
    }

    fn taps(&self, phase: (usize, usize)) -> Vec<Tap> {
        let stride = self.stride;
        reaching(phase.0, stride)
            .flat_map(|(row, down)| {
                reaching(phase.1, stride).map(move |(column, right)| Tap {
                    index: 3 * row + column,
                    down,
                    right,
                })
            })
            .collect()
    }

    fn offset(&self, tap: Tap) -> usize {
        (tap.down * (self.low.width + 1) + tap.right) * self.low.channels
    }

    /// All phases, row first.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let stride = self.stride;
        (0..stride * stride).map(move |phase| (phase / stride, phase % stride))
    }

    /// The region of an output pixel.
    pub(crate) fn region(&self, row: usize, column: usize) -> usize {
        let class = |at: usize, length: usize| {
            if at == 0 {
                0
            } else if at + 1 == length {
                2
            } else {
                1
            }
        };
        CLASSES * class(row, self.low.height * self.stride)
            + class(column, self.low.width * self.stride)
    }

    /// One phase of the convolution of the padded differences; `false`, and nothing written, where no tap reaches it.
    pub(crate) fn convolve<T: Real>(
        &self,
        phase: (usize, usize),
        padded: &[T],
        kernel: &[T],
        output: &mut [T],
    ) -> bool {
        let channels = self.low.channels;
        let taps = self.taps(phase);
        for (index, tap) in taps.iter().enumerate() {
            multiply(
                output,
                channels,
                [channels, self.outputs(), channels],
                Factor::columns(&kernel[tap.index * channels * channels..], channels),
                Factor::columns(&padded[self.offset(*tap)..], channels),
                if index == 0 {
                    Mode::Overwrite
                } else {
                    Mode::Accumulate
                },
            );
        }
        !taps.is_empty()
    }

    /// Adds what one phase of the output's gradient gives the low-resolution pixels and the weights.
    ///
    /// - `gradient`: of the phase, zero between its rows
    /// - `flipped`: the kernel as [`Kernel::backward`](crate::flex::spatial::Kernel::backward) has it
    pub(crate) fn add_gradients<T: Real>(
        &self,
        phase: (usize, usize),
        padded: &[T],
        gradient: &[T],
        flipped: &[T],
        input_gradient: &mut [T],
        weight_gradient: &mut [T],
    ) {
        let channels = self.low.channels;
        let square = channels * channels;
        for tap in self.taps(phase) {
            multiply(
                &mut input_gradient[self.offset(tap)..],
                channels,
                [channels, self.outputs(), channels],
                Factor::columns(&flipped[(8 - tap.index) * square..], channels),
                Factor::columns(gradient, channels),
                Mode::Accumulate,
            );
            multiply(
                &mut weight_gradient[tap.index * square..(tap.index + 1) * square],
                channels,
                [channels, channels, self.outputs()],
                Factor::columns(gradient, channels),
                Factor::rows(&padded[self.offset(tap)..], channels),
                Mode::Accumulate,
            );
        }
    }
}

/// The taps that lie inside the image where a region's pixels are.
fn inside(region: usize) -> impl Iterator<Item = usize> {
    let allowed = |class: usize, tap: usize| !(class == 0 && tap == 0 || class == 2 && tap == 2);
    (0..9)
        .filter(move |tap| allowed(region / CLASSES, tap / 3) && allowed(region % CLASSES, tap % 3))
}

/// The convolution of a constant image, by region: `[REGIONS, channels_out]`.
///
/// - kernel: `[3, 3, channels_in, channels_out]`
pub(crate) fn convolve_constant(constant: &[f64], kernel: &[f64]) -> Vec<f64> {
    let channels = constant.len();
    let of_tap: Vec<Vec<f64>> = kernel
        .chunks_exact(channels * channels)
        .map(|taps| {
            let mut sums = vec![0.0; channels];
            for (row, constant) in taps.chunks_exact(channels).zip(constant) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, weight)| *sum += weight * constant);
            }
            sums
        })
        .collect();
    let mut regions = vec![0.0; REGIONS * channels];
    for (region, values) in regions.chunks_exact_mut(channels).enumerate() {
        for tap in inside(region) {
            values
                .iter_mut()
                .zip(&of_tap[tap])
                .for_each(|(value, sum)| *value += sum);
        }
    }
    regions
}

/// From the sums of the output's gradient by region, what a constant image contributes to the weights' gradient (added to
/// `weight_gradient`), and the sum over all positions of the input's gradient.
///
/// - region_sums: `[REGIONS, channels_out]`
/// - kernel, weight_gradient: `[3, 3, channels_in, channels_out]`
pub(crate) fn constant_gradients(
    constant: &[f64],
    kernel: &[f64],
    region_sums: &[f64],
    weight_gradient: &mut [f64],
) -> Vec<f64> {
    let channels = constant.len();
    let mut of_tap = vec![vec![0.0; channels]; 9];
    for (region, sums) in region_sums.chunks_exact(channels).enumerate() {
        for tap in inside(region) {
            of_tap[tap]
                .iter_mut()
                .zip(sums)
                .for_each(|(total, sum)| *total += sum);
        }
    }
    let mut input_sum = vec![0.0; channels];
    let square = channels * channels;
    for ((taps, gradients), sums) in kernel
        .chunks_exact(square)
        .zip(weight_gradient.chunks_exact_mut(square))
        .zip(&of_tap)
    {
        for input in 0..channels {
            let row = input * channels..(input + 1) * channels;
            for ((weight, gradient), sum) in
                taps[row.clone()].iter().zip(&mut gradients[row]).zip(sums)
            {
                *gradient += constant[input] * sum;
                input_sum[input] += weight * sum;
            }
        }
    }
    input_sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_use_each_tap_once() {
        for stride in 2..5 {
            let grid = Grid {
                low: Image {
                    height: 2,
                    width: 2,
                    channels: 1,
                },
                stride,
            };
            let mut used: Vec<usize> = grid
                .phases()
                .flat_map(|phase| grid.taps(phase))
                .map(|tap| tap.index)
                .collect();
            used.sort_unstable();
            assert_eq!(used, [0, 1, 2, 3, 4, 5, 6, 7, 8], "stride {stride}");
        }
    }

    #[test]
    fn phases_of_stride_two_are_those_of_the_identity() {
        let reach = |phase| reaching(phase, 2).collect::<Vec<_>>();
        assert_eq!(reach(0), [(1, 0)], "the centre tap, on the grid");
        assert_eq!(
            reach(1),
            [(0, 0), (2, 1)],
            "the first tap reaches up, the last down"
        );
        assert_eq!(reaching(1, 3).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(reaching(2, 3).collect::<Vec<_>>(), [(2, 1)]);
    }
}
