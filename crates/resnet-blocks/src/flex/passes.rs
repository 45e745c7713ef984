//! The passes of a bottleneck's forward over the batch.

use burn_flex::FlexTensor;

use crate::flex::block::{Affine, Layer, sample};
use crate::flex::element::{Real, narrow, relu, transpose};
use crate::flex::elementwise::{centre, finish, finish_with};
use crate::flex::interleaved::{REGIONS, convolve_constant};
use crate::flex::partition::{Partition, for_each_chunk};
use crate::flex::pointwise::NextLayer;
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::spatial::{Kernel, convolve};
use crate::flex::statistics::moments::{Moments, channel_moments, cross_moments};
use crate::flex::statistics::normalization::Normalization;
use crate::operation::{Around, BlockConfig, Sizes, position};

/// The layers of a block, and the passes over its batch.
pub(super) struct Forward<T> {
    pub(super) config: BlockConfig,
    pub(super) sizes: Sizes,
    pub(super) partition: Partition,
    /// Reduce, spatial, expand and, where there is one, shortcut.
    pub(super) layers: Vec<Layer>,
    pub(super) kernel: Kernel<T>,
}

impl<T: Real> Forward<T> {
    pub(super) fn new(config: BlockConfig, inputs: &[FlexTensor]) -> Self {
        let sizes = Sizes::new(&config, inputs);
        let mut layers = vec![
            Layer::read::<T>(inputs, position::REDUCE, config.is_transposed),
            Layer::read::<T>(inputs, position::SPATIAL, false),
            Layer::read::<T>(inputs, position::EXPAND, false),
        ];
        if config.around == Around::Projection {
            layers.push(Layer::read::<T>(
                inputs,
                position::SHORTCUT,
                config.is_transposed,
            ));
        }
        let kernel = Kernel::new(&narrow(&layers[1].weight), sizes.width);
        Self {
            config,
            sizes,
            partition: Partition::new(sizes.batch, sizes.output_pixels()),
            layers,
            kernel,
        }
    }

    /// The pixels that a stride samples; nothing where it samples all.
    pub(super) fn sampled(&self, input: &[T]) -> Vec<T> {
        let sizes = &self.sizes;
        if sizes.down == 1 {
            return Vec::new();
        }
        let mut sampled = vec![T::ZERO; sizes.batch * sizes.low_pixels() * sizes.channels_in];
        let chunks = self
            .partition
            .split(input)
            .into_iter()
            .zip(self.partition.split_mut(&mut sampled))
            .collect();
        for_each_chunk(chunks, |(input, sampled)| sample(sizes, input, sampled));
        sampled
    }

    /// The reduce product, its moments, and those of the input where a projection needs them.
    pub(super) fn reduce_and_measure(&self, input: &[T]) -> (Vec<T>, Moments, Option<Moments>) {
        let Sizes {
            channels_in, width, ..
        } = self.sizes;
        let (reduced, moments) = self.reduce(input, |input, reduced| {
            let of_input = (self.config.around == Around::Projection)
                .then(|| cross_moments(&mut input.to_vec(), channels_in));
            (channel_moments(reduced, width), of_input)
        });
        let of_input = moments
            .iter()
            .map(|(_, moments)| moments.as_ref())
            .collect::<Option<Vec<_>>>();
        (
            reduced,
            Moments::combine(moments.iter().map(|(moments, _)| moments)),
            of_input.map(Moments::combine),
        )
    }

    /// The reduce product, and what `measure` says of each chunk of the input and the product.
    pub(super) fn reduce<R: Send>(
        &self,
        input: &[T],
        measure: impl Fn(&[T], &[T]) -> R + Sync + Send,
    ) -> (Vec<T>, Vec<R>) {
        let Sizes {
            channels_in, width, ..
        } = self.sizes;
        let weight: Vec<T> = narrow(&transpose(&self.layers[0].weight, width, channels_in));
        let mut reduced = vec![T::ZERO; self.sizes.batch * self.sizes.low_pixels() * width];
        let chunks = self
            .partition
            .split(input)
            .into_iter()
            .zip(self.partition.split_mut(&mut reduced))
            .collect();
        let measures = for_each_chunk(chunks, |(input, reduced): (&[T], &mut [T])| {
            multiply(
                reduced,
                width,
                [width, input.len() / channels_in, channels_in],
                Factor::columns(&weight, width),
                Factor::columns(input, channels_in),
                Mode::Overwrite,
            );
            measure(input, reduced)
        });
        (reduced, measures)
    }

    /// The 3x3 convolution of the normalised and activated map, and its moments.
    pub(super) fn spatial_and_measure(
        &self,
        reduced: &[T],
        norm: &Normalization,
    ) -> (Vec<T>, Moments) {
        let (output, moments) = self.spatial(reduced, norm, |output| {
            channel_moments(output, self.sizes.width)
        });
        (output, Moments::combine(&moments))
    }

    /// The 3x3 convolution of the normalised and activated map, and what `measure` says of each of its chunks.
    pub(super) fn spatial<R: Send>(
        &self,
        reduced: &[T],
        norm: &Normalization,
        measure: impl Fn(&[T]) -> R + Sync + Send,
    ) -> (Vec<T>, Vec<R>) {
        let sizes = &self.sizes;
        let mut output = vec![T::ZERO; sizes.batch * sizes.output_pixels() * sizes.width];
        let chunks = self
            .partition
            .split(reduced)
            .into_iter()
            .zip(self.partition.split_mut(&mut output))
            .collect();
        let affine = Affine::new(norm);
        let measures = if sizes.up == 1 {
            for_each_chunk(chunks, |(reduced, output): (&[T], &mut [T])| {
                self.convolve(reduced, &affine, output);
                measure(output)
            })
        } else {
            let constant: Vec<f64> = norm.shift.iter().map(|shift| relu(*shift)).collect();
            let kernel: Vec<f64> = self
                .kernel
                .forward
                .iter()
                .map(|value| value.widen())
                .collect();
            let regions: Vec<T> = narrow(&convolve_constant(&constant, &kernel));
            let constant: Vec<T> = narrow(&constant);
            for_each_chunk(chunks, |(reduced, output): (&[T], &mut [T])| {
                self.convolve_interleaved(reduced, &affine, &constant, &regions, output);
                measure(output)
            })
        };
        (output, measures)
    }

    pub(super) fn convolve(&self, reduced: &[T], affine: &Affine<T>, output: &mut [T]) {
        let image = self.sizes.image();
        let row_len = image.width * image.channels;
        let mut padded = vec![T::ZERO; image.padded_len()];
        let mut scratch = vec![T::ZERO; image.output_len()];
        let len = image.height * row_len;
        for (reduced, output) in reduced.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
            for (row, values) in reduced.chunks_exact(row_len).enumerate() {
                affine.activate(values, &mut padded[image.padded_row(row)]);
            }
            convolve(image, &padded, &self.kernel.forward, &mut scratch);
            for (row, values) in output.chunks_exact_mut(row_len).enumerate() {
                values.copy_from_slice(&scratch[image.output_row(row)]);
            }
        }
    }

    pub(super) fn convolve_interleaved(
        &self,
        reduced: &[T],
        affine: &Affine<T>,
        constant: &[T],
        regions: &[T],
        output: &mut [T],
    ) {
        let (grid, channels) = (self.sizes.grid(), self.sizes.width);
        let [height, width] = self.sizes.output;
        assert_eq!(regions.len(), REGIONS * channels);
        let row_len = grid.low.width * channels;
        let mut padded = vec![T::ZERO; grid.padded_len()];
        let mut scratch = vec![T::ZERO; grid.phase_len()];
        let low = reduced.chunks_exact(grid.low.height * row_len);
        for (reduced, output) in low.zip(output.chunks_exact_mut(height * width * channels)) {
            for (row, values) in reduced.chunks_exact(row_len).enumerate() {
                let padded = &mut padded[grid.padded_row(row)];
                affine.activate(values, padded);
                centre(padded, constant);
            }
            for phase in grid.phases() {
                let is_reached = grid.convolve(phase, &padded, &self.kernel.forward, &mut scratch);
                for low_row in 0..grid.low.height {
                    let row = low_row * grid.stride + phase.0;
                    let output = &mut output[row * width * channels..(row + 1) * width * channels];
                    let values = &scratch[grid.padded_row(low_row)];
                    for (low_column, values) in values.chunks_exact(channels).enumerate() {
                        let column = low_column * grid.stride + phase.1;
                        let region = grid.region(row, column) * channels;
                        let region = &regions[region..region + channels];
                        let output = &mut output[column * channels..(column + 1) * channels];
                        if is_reached {
                            for ((output, value), region) in
                                output.iter_mut().zip(values).zip(region)
                            {
                                *output = *value + *region;
                            }
                        } else {
                            output.copy_from_slice(region);
                        }
                    }
                }
            }
        }
    }

    /// The moments of the expand layer's input.
    pub(super) fn expand_moments(&self, spatial: &[T], norm: &Normalization) -> Moments {
        let affine = Affine::new(norm);
        let moments = for_each_chunk(self.partition.split(spatial), |spatial| {
            let mut active = vec![T::ZERO; spatial.len()];
            affine.activate(spatial, &mut active);
            cross_moments(&mut active, self.sizes.width)
        });
        Moments::combine(&moments)
    }

    /// Expand and shortcut with their norms in weights (`[channels_in, channels_out]`) and shifts, sum and ReLU.
    ///
    /// Where there is a layer behind the block, the output is that layer's, and the block's own is there for some rows at a time only, in the
    /// cache.
    pub(super) fn expand(
        &self,
        low_input: &[T],
        spatial: &[T],
        spatial_norm: &Normalization,
        (weight, shift): (Vec<f64>, &[f64]),
        shortcut: Option<(Vec<f64>, &[f64])>,
        next: Option<&NextLayer<T>>,
    ) -> Vec<T> {
        let sizes = &self.sizes;
        let (channels_in, channels_out) = (sizes.channels_in, sizes.channels_out);
        let weight: Vec<T> = narrow(&weight);
        let mut shift = shift.to_vec();
        let shortcut_weight: Option<Vec<T>> = shortcut.map(|(weight, of_shortcut)| {
            shift
                .iter_mut()
                .zip(of_shortcut)
                .for_each(|(shift, other)| *shift += other);
            narrow(&weight)
        });
        let shift: Vec<T> = narrow(&shift);
        let affine = Affine::new(spatial_norm);
        let last_channels = next.map_or(channels_out, NextLayer::channels_out);
        let mut output = vec![T::ZERO; sizes.batch * sizes.output_pixels() * last_channels];
        let partition = &self.partition;
        let chunks = partition
            .split(low_input)
            .into_iter()
            .zip(partition.split(spatial))
            .zip(partition.split_mut(&mut output));
        for_each_chunk(
            chunks.collect(),
            |((input, spatial), output): ((&[T], &[T]), &mut [T])| {
                let (mut active, mut tile) = (Vec::new(), Vec::new());
                for rows in sizes.row_tiles(input.len() / channels_in) {
                    let pixels = rows.start * sizes.up * sizes.output[1]
                        ..rows.end * sizes.up * sizes.output[1];
                    let spatial = &spatial[pixels.start * sizes.width..pixels.end * sizes.width];
                    let last =
                        &mut output[pixels.start * last_channels..pixels.end * last_channels];
                    let output = if next.is_some() {
                        tile.resize(pixels.len() * channels_out, T::ZERO);
                        &mut tile
                    } else {
                        &mut *last
                    };
                    let input = &input[rows.start * sizes.low[1] * channels_in
                        ..rows.end * sizes.low[1] * channels_in];
                    active.resize(spatial.len(), T::ZERO);
                    affine.activate(spatial, &mut active);
                    multiply(
                        output,
                        channels_out,
                        [channels_out, pixels.len(), sizes.width],
                        Factor::columns(&weight, channels_out),
                        Factor::columns(&active, sizes.width),
                        Mode::Overwrite,
                    );
                    if let Some(weight) = &shortcut_weight {
                        add_to_grid(sizes, weight, input, output);
                    }
                    if self.config.around == Around::Identity {
                        finish_with(output, &shift, input);
                    } else {
                        finish(output, &shift);
                    }
                    if let Some(next) = next {
                        next.apply(&tile, last);
                    }
                }
            },
        );
        output
    }
}

/// Adds the shortcut's product to the output pixels that stand on the grid.
fn add_to_grid<T: Real>(sizes: &Sizes, weight: &[T], input: &[T], output: &mut [T]) {
    let (channels_in, channels_out, up) = (sizes.channels_in, sizes.channels_out, sizes.up);
    // Without interleaving the rows follow each other; with it, each row of the grid is on its own.
    let input_len = if up == 1 {
        input.len()
    } else {
        sizes.low[1] * channels_in
    };
    let output_len = if up == 1 {
        output.len()
    } else {
        up * sizes.output[1] * channels_out
    };
    for (input, output) in input
        .chunks_exact(input_len)
        .zip(output.chunks_exact_mut(output_len))
    {
        multiply(
            output,
            up * channels_out,
            [channels_out, input.len() / channels_in, channels_in],
            Factor::columns(weight, channels_out),
            Factor::columns(input, channels_in),
            Mode::Accumulate,
        );
    }
}
