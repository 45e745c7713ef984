//! The second and third pass of backward: from the expand layer's input to that of the 3x3 convolution.

use crate::flex::backward::sums::{Backward, ChunkSums, NormSlope, norm_gradient};
use crate::flex::element::{Real, narrow, relu};
use crate::flex::elementwise::{activate_centred, centre};
use crate::flex::interleaved::{REGIONS, constant_gradients};
use crate::flex::partition::{for_each_chunk, total};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::spatial::{add_weight_gradient, convolve};
use crate::flex::statistics::folded::FoldedGradient;
use crate::flex::statistics::moments::channel_sums;
use crate::flex::statistics::normalization::NormGradient;

/// What the 3x3 convolution and the norm before it need.
pub(super) struct Reduce<T> {
    /// Gradient behind the reduce layer's norm, on the grid.
    pub(super) gradient: Vec<T>,
    pub(super) norm: NormGradient,
    /// In the order of [`Kernel::forward`].
    pub(super) kernel: Vec<f64>,
}

impl<T: Real> Backward<'_, T> {
    /// Turns `gradient` into that behind the spatial layer's norm; returns that norm's gradients.
    pub(super) fn expand_input(&self, expand: &FoldedGradient, gradient: &mut [T]) -> NormGradient {
        let width = self.sizes.width;
        let correction: Vec<T> = expand
            .correction
            .iter()
            .map(|value| T::narrow(-value))
            .collect();
        let (constant, mean) = (
            narrow::<T>(&expand.constant),
            narrow::<T>(&self.kept.expand.input.mean),
        );
        let chunks = self
            .partition
            .split(&self.kept.spatial)
            .into_iter()
            .zip(self.partition.split_mut(gradient))
            .collect();
        let sums = for_each_chunk(chunks, |(spatial, gradient): (&[T], &mut [T])| {
            let mut active = vec![T::ZERO; spatial.len()];
            activate_centred(
                spatial,
                &self.spatial.scale,
                &self.spatial.shift,
                &mean,
                &mut active,
            );
            multiply(
                gradient,
                width,
                [width, spatial.len() / width, width],
                Factor::columns(&correction, width),
                Factor::columns(&active, width),
                Mode::Accumulate,
            );
            self.spatial.activate_backward(spatial, &constant, gradient)
        });
        norm_gradient(&self.kept.spatial_norm, self.kept, &sums)
    }

    /// From the gradient behind the spatial layer's norm to that behind the reduce layer's.
    pub(super) fn spatial(&self, norm: &NormGradient, gradient: &[T]) -> Reduce<T> {
        let (kept, sizes) = (self.kept, &self.sizes);
        let slope = NormSlope::<T>::new(&kept.spatial_norm, norm);
        let mut reduced_gradient = vec![T::ZERO; kept.reduced.len()];
        let chunks = self
            .partition
            .split(gradient)
            .into_iter()
            .zip(self.partition.split(&kept.spatial));
        let chunks = chunks
            .zip(self.partition.split(&kept.reduced))
            .zip(self.partition.split_mut(&mut reduced_gradient));
        let chunks = chunks
            .map(|(((gradient, spatial), reduced), to)| SpatialChunk {
                gradient,
                spatial,
                reduced,
                to,
            })
            .collect();
        let (norm, kernel) = if sizes.up == 1 {
            let sums = for_each_chunk(chunks, |chunk| self.spatial_of_chunk(chunk, &slope));
            let kernel = total(&sums, |(kernel, _)| kernel);
            let sums: Vec<_> = sums.into_iter().map(|(_, sums)| sums).collect();
            (norm_gradient(&kept.reduce_norm, kept, &sums), kernel)
        } else {
            let sums = for_each_chunk(chunks, |chunk| self.interleaved_of_chunk(chunk, &slope));
            let mut kernel = total(&sums, |chunk| &chunk.kernel);
            let (norm, wide) = (&kept.reduce_norm, |values: &[T]| {
                values.iter().map(|value| value.widen()).collect::<Vec<_>>()
            });
            let constant: Vec<f64> = norm.shift.iter().map(|shift| relu(*shift)).collect();
            let regions = total(&sums, |chunk| &chunk.regions);
            let everywhere = constant_gradients(
                &constant,
                &wide(&kept.kernel.forward),
                &regions,
                &mut kernel,
            );
            let on_grid = total(&sums, |chunk| &chunk.unmasked_sum);
            let (mut sum, mut weighted) = (
                total(&sums, |chunk| &chunk.sums.sum),
                total(&sums, |chunk| &chunk.sums.weighted_sum),
            );
            for channel in 0..sizes.width {
                // The positions beside the grid: the norm's input is zero there, its output the shift.
                // Not a number counts as positive: ReLU lets it through.
                if norm.shift[channel] > 0.0 || norm.shift[channel].is_nan() {
                    let beside = everywhere[channel] - on_grid[channel];
                    sum[channel] += beside;
                    weighted[channel] -= norm.mean[channel] * beside;
                }
            }
            let batch = kept.shared.as_ref();
            let gradient = norm.shared_gradient(batch, kept.positions, &sum, &weighted);
            (gradient, kernel)
        };
        Reduce {
            gradient: reduced_gradient,
            norm,
            kernel,
        }
    }

    fn spatial_of_chunk(
        &self,
        chunk: SpatialChunk<T>,
        slope: &NormSlope<T>,
    ) -> (Vec<T>, ChunkSums<T>) {
        let image = self.sizes.image();
        let row_len = image.width * image.channels;
        let mut kernel = vec![T::ZERO; 9 * image.channels * image.channels];
        let [mut active, mut padded] = [0, 1].map(|_| vec![T::ZERO; image.padded_len()]);
        let mut scratch = vec![T::ZERO; image.output_len()];
        let len = image.height * row_len;
        let images = chunk
            .gradient
            .chunks_exact(len)
            .zip(chunk.spatial.chunks_exact(len));
        for (((gradient, spatial), reduced), to) in images
            .zip(chunk.reduced.chunks_exact(len))
            .zip(chunk.to.chunks_exact_mut(len))
        {
            for row in 0..image.height {
                let (flat, inner) = (row * row_len..(row + 1) * row_len, image.padded_row(row));
                slope.apply(
                    &gradient[flat.clone()],
                    &spatial[flat.clone()],
                    &mut padded[inner.clone()],
                );
                self.reduce.activate(&reduced[flat], &mut active[inner]);
            }
            add_weight_gradient(image, &active, &padded, &mut kernel);
            convolve(image, &padded, &self.kept.kernel.backward, &mut scratch);
            for (row, to) in to.chunks_exact_mut(row_len).enumerate() {
                to.copy_from_slice(&scratch[image.output_row(row)]);
            }
        }
        (
            kernel,
            self.reduce.activate_backward(
                chunk.reduced,
                &vec![T::ZERO; self.sizes.width],
                chunk.to,
            ),
        )
    }

    fn interleaved_of_chunk(
        &self,
        chunk: SpatialChunk<T>,
        slope: &NormSlope<T>,
    ) -> InterleavedSums<T> {
        let (grid, channels) = (self.sizes.grid(), self.sizes.width);
        let [height, width] = self.sizes.output;
        let low_row_len = grid.low.width * channels;
        let constant: Vec<T> = self
            .kept
            .reduce_norm
            .shift
            .iter()
            .map(|shift| T::narrow(relu(*shift)))
            .collect();
        let mut kernel = vec![T::ZERO; 9 * channels * channels];
        let mut regions = vec![T::ZERO; REGIONS * channels];
        let mut differences = vec![T::ZERO; grid.padded_len()];
        let mut phase_gradient = vec![T::ZERO; grid.phase_len()];
        let mut input_gradient = vec![T::ZERO; grid.padded_len()];
        let mut full = vec![T::ZERO; height * width * channels];
        let images = chunk
            .gradient
            .chunks_exact(full.len())
            .zip(chunk.spatial.chunks_exact(full.len()));
        let low_len = grid.low.height * low_row_len;
        for (((gradient, spatial), reduced), to) in images
            .zip(chunk.reduced.chunks_exact(low_len))
            .zip(chunk.to.chunks_exact_mut(low_len))
        {
            slope.apply(gradient, spatial, &mut full);
            for (pixel, values) in full.chunks_exact(channels).enumerate() {
                let region = grid.region(pixel / width, pixel % width) * channels;
                regions[region..region + channels]
                    .iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += *value);
            }
            for (row, values) in reduced.chunks_exact(low_row_len).enumerate() {
                let differences = &mut differences[grid.padded_row(row)];
                self.reduce.activate(values, differences);
                centre(differences, &constant);
            }
            input_gradient.fill(T::ZERO);
            for phase in grid.phases() {
                for row in 0..grid.low.height {
                    let start = ((row * grid.stride + phase.0) * width + phase.1) * channels;
                    let to = phase_gradient[grid.padded_row(row)].chunks_exact_mut(channels);
                    for (column, to) in to.enumerate() {
                        let from = start + column * grid.stride * channels;
                        to.copy_from_slice(&full[from..from + channels]);
                    }
                }
                let flipped = &self.kept.kernel.backward;
                grid.add_gradients(
                    phase,
                    &differences,
                    &phase_gradient,
                    flipped,
                    &mut input_gradient,
                    &mut kernel,
                );
            }
            for (row, to) in to.chunks_exact_mut(low_row_len).enumerate() {
                to.copy_from_slice(&input_gradient[grid.padded_row(row)]);
            }
        }
        let unmasked_sum = channel_sums(chunk.to, channels);
        InterleavedSums {
            kernel,
            regions,
            unmasked_sum,
            sums: self.reduce.activate_backward(
                chunk.reduced,
                &vec![T::ZERO; self.sizes.width],
                chunk.to,
            ),
        }
    }
}

struct SpatialChunk<'a, T> {
    gradient: &'a [T],
    spatial: &'a [T],
    reduced: &'a [T],
    to: &'a mut [T],
}

struct InterleavedSums<T> {
    kernel: Vec<T>,
    regions: Vec<T>,
    unmasked_sum: Vec<T>,
    sums: ChunkSums<T>,
}
