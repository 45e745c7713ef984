//! The forward pass of a whole bottleneck.
//!
//! Four passes over the batch, each parallel over its images, between which only statistics are combined:
//!
//! 1. the reduce product and its moments, and the moments of the shortcut's input;
//! 2. norm, ReLU and the 3x3 convolution, and its moments;
//! 3. the moments of the expand layer's input;
//! 4. norm, ReLU, expand and shortcut products with their norms folded in, sum and ReLU.
//!
//! What has the width of the output is written once, and only the narrow maps are kept for backward.

use burn_flex::FlexTensor;

use crate::flex::block::{Affine, Layer, sample};
use crate::flex::element::{Real, narrow, relu, transpose};
use crate::flex::elementwise::{centre, finish, finish_with};
use crate::flex::folded::{Folded, scaled_weight};
use crate::flex::interleaved::{REGIONS, convolve_constant};
use crate::flex::layout::{channels_last, wide_values};
use crate::flex::moments::{Moments, channel_moments, cross_moments};
use crate::flex::normalization::Normalization;
use crate::flex::partition::{Partition, for_each_part};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::spatial::{Kernel, convolve};
use crate::operation::{Around, BlockConfig, Sizes, position};

/// Mean (of the convolution with its bias) and variance of each norm, in the layers' order.
pub(crate) type Statistics = Vec<(Vec<f64>, Vec<f64>)>;

/// What backward needs.
pub(crate) struct Kept<T> {
    pub(crate) config: BlockConfig,
    pub(crate) sizes: Sizes,
    /// `[batch, height, width, channels_in]`; none where `sampled` has what is needed.
    pub(crate) input: Option<FlexTensor>,
    /// The input's pixels that a stride samples.
    pub(crate) sampled: Vec<T>,
    /// Output of the reduce product, low resolution.
    pub(crate) reduced: Vec<T>,
    /// Output of the 3x3 convolution, without bias.
    pub(crate) spatial: Vec<T>,
    /// `[channels_out, channels_in]`
    pub(crate) reduce_weight: Vec<f64>,
    pub(crate) kernel: Kernel<T>,
    pub(crate) reduce_norm: Normalization,
    pub(crate) spatial_norm: Normalization,
    pub(crate) expand: Folded,
    pub(crate) shortcut: Option<Folded>,
}

impl<T: Real> Kept<T> {
    /// The low-resolution input of the reduce and shortcut products.
    pub(crate) fn low_input(&self) -> &[T] {
        self.input
            .as_ref()
            .map_or(&self.sampled, |input| input.storage::<T>())
    }
}

/// The block's output, its norms' statistics and what backward needs, in training.
pub(crate) fn train<T: Real>(
    config: BlockConfig,
    inputs: &[FlexTensor],
) -> (Vec<T>, Statistics, Kept<T>) {
    let forward = Forward::<T>::new(config, inputs);
    let sizes = forward.sizes;
    let input = channels_last(inputs[position::INPUT].clone());
    let sampled = forward.sampled(input.storage::<T>());
    let low_input = if sizes.down == 1 {
        input.storage::<T>()
    } else {
        &sampled
    };

    let (reduced, moments, input_moments) = forward.reduce(low_input);
    let norm = |layer: &Layer, moments: &Moments, spread: f64, epsilon: f64| {
        Normalization::of_grid(
            &moments.mean,
            &moments.covariance(),
            spread,
            &layer.gamma,
            &layer.beta,
            epsilon,
        )
    };
    let reduce_norm = norm(
        &forward.layers[0],
        &moments,
        sizes.spread(),
        config.epsilon[0],
    );
    let (spatial, moments) = forward.spatial(&reduced, &reduce_norm);
    let spatial_norm = norm(&forward.layers[1], &moments, 1.0, config.epsilon[1]);
    let fold = |layer: usize, moments: Moments, spread: f64| {
        let Layer {
            weight,
            gamma,
            beta,
            ..
        } = &forward.layers[layer];
        Folded::train(
            weight.clone(),
            moments,
            spread,
            gamma,
            beta,
            config.epsilon[layer],
        )
    };
    let expand = fold(2, forward.expand_moments(&spatial, &spatial_norm), 1.0);
    let shortcut = input_moments.map(|moments| fold(3, moments, sizes.spread()));
    let output = forward.expand(
        low_input,
        &spatial,
        &spatial_norm,
        (expand.scaled_weight(), &expand.norm.shift),
        shortcut
            .as_ref()
            .map(|folded| (folded.scaled_weight(), folded.norm.shift.as_slice())),
    );

    let norms = [
        Some(&reduce_norm),
        Some(&spatial_norm),
        Some(&expand.norm),
        shortcut.as_ref().map(|folded| &folded.norm),
    ];
    let statistics = norms.into_iter().flatten().zip(&forward.layers);
    let statistics = statistics
        .map(|(norm, layer)| (layer.reported_mean(norm), norm.variance.clone()))
        .collect();
    let Forward {
        kernel, mut layers, ..
    } = forward;
    let kept = Kept {
        config,
        sizes,
        input: (sizes.down == 1).then_some(input),
        sampled,
        reduced,
        spatial,
        reduce_weight: std::mem::take(&mut layers[0].weight),
        kernel,
        reduce_norm,
        spatial_norm,
        expand,
        shortcut,
    };
    (output, statistics, kept)
}

/// The block's output with given statistics: mean and variance of each norm, one after the other.
pub(crate) fn infer<T: Real>(
    config: BlockConfig,
    inputs: &[FlexTensor],
    running: &[FlexTensor],
) -> (Sizes, Vec<T>) {
    let forward = Forward::<T>::new(config, inputs);
    let input = channels_last(inputs[position::INPUT].clone());
    let sampled = forward.sampled(input.storage::<T>());
    let low_input = if forward.sizes.down == 1 {
        input.storage::<T>()
    } else {
        &sampled
    };
    let norms: Vec<Normalization> = forward
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let [mean, variance] =
                [0, 1].map(|which| wide_values::<T>(&running[2 * index + which]));
            let mean = mean
                .iter()
                .zip(&layer.bias)
                .map(|(mean, bias)| mean - bias)
                .collect();
            Normalization::of_statistics(
                mean,
                variance,
                &layer.gamma,
                &layer.beta,
                config.epsilon[index],
            )
        })
        .collect();
    let (reduced, ..) = forward.reduce(low_input);
    let (spatial, _) = forward.spatial(&reduced, &norms[0]);
    let folded = |layer: usize| {
        let norm: &Normalization = &norms[layer];
        (
            scaled_weight(&forward.layers[layer].weight, &norm.scale),
            norm.shift.as_slice(),
        )
    };
    let (weight, shift) = folded(2);
    let shortcut = (config.around == Around::Projection).then(|| folded(3));
    let output = forward.expand(low_input, &spatial, &norms[1], (weight, shift), shortcut);
    (forward.sizes, output)
}

struct Forward<T> {
    config: BlockConfig,
    sizes: Sizes,
    partition: Partition,
    /// Reduce, spatial, expand and, where there is one, shortcut.
    layers: Vec<Layer>,
    kernel: Kernel<T>,
}

impl<T: Real> Forward<T> {
    fn new(config: BlockConfig, inputs: &[FlexTensor]) -> Self {
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
    fn sampled(&self, input: &[T]) -> Vec<T> {
        let sizes = &self.sizes;
        if sizes.down == 1 {
            return Vec::new();
        }
        let mut sampled = vec![T::ZERO; sizes.batch * sizes.low_pixels() * sizes.channels_in];
        let parts = self
            .partition
            .split(input)
            .into_iter()
            .zip(self.partition.split_mut(&mut sampled))
            .collect();
        for_each_part(parts, |(input, sampled)| sample(sizes, input, sampled));
        sampled
    }

    /// The reduce product, its moments, and those of the input where a projection needs them.
    fn reduce(&self, input: &[T]) -> (Vec<T>, Moments, Option<Moments>) {
        let Sizes {
            channels_in, width, ..
        } = self.sizes;
        let weight: Vec<T> = narrow(&transpose(&self.layers[0].weight, width, channels_in));
        let mut reduced = vec![T::ZERO; self.sizes.batch * self.sizes.low_pixels() * width];
        let parts = self
            .partition
            .split(input)
            .into_iter()
            .zip(self.partition.split_mut(&mut reduced))
            .collect();
        let moments = for_each_part(parts, |(input, reduced): (&[T], &mut [T])| {
            multiply(
                reduced,
                width,
                [width, input.len() / channels_in, channels_in],
                Factor::columns(&weight, width),
                Factor::columns(input, channels_in),
                Mode::Overwrite,
            );
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

    /// The 3x3 convolution of the normalised and activated map, and its moments.
    fn spatial(&self, reduced: &[T], norm: &Normalization) -> (Vec<T>, Moments) {
        let sizes = &self.sizes;
        let mut output = vec![T::ZERO; sizes.batch * sizes.output_pixels() * sizes.width];
        let parts = self
            .partition
            .split(reduced)
            .into_iter()
            .zip(self.partition.split_mut(&mut output))
            .collect();
        let affine = Affine::new(norm);
        let moments = if sizes.up == 1 {
            for_each_part(parts, |(reduced, output): (&[T], &mut [T])| {
                self.convolve(reduced, &affine, output);
                channel_moments(output, sizes.width)
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
            for_each_part(parts, |(reduced, output): (&[T], &mut [T])| {
                self.convolve_interleaved(reduced, &affine, &constant, &regions, output);
                channel_moments(output, sizes.width)
            })
        };
        (output, Moments::combine(&moments))
    }

    fn convolve(&self, reduced: &[T], affine: &Affine<T>, output: &mut [T]) {
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

    fn convolve_interleaved(
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
    fn expand_moments(&self, spatial: &[T], norm: &Normalization) -> Moments {
        let affine = Affine::new(norm);
        let moments = for_each_part(self.partition.split(spatial), |spatial| {
            let mut active = vec![T::ZERO; spatial.len()];
            affine.activate(spatial, &mut active);
            cross_moments(&mut active, self.sizes.width)
        });
        Moments::combine(&moments)
    }

    /// Expand and shortcut with their norms in weights (`[channels_in, channels_out]`) and shifts, sum and ReLU.
    fn expand(
        &self,
        low_input: &[T],
        spatial: &[T],
        spatial_norm: &Normalization,
        (weight, shift): (Vec<f64>, &[f64]),
        shortcut: Option<(Vec<f64>, &[f64])>,
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
        let mut output = vec![T::ZERO; sizes.batch * sizes.output_pixels() * channels_out];
        let partition = &self.partition;
        let parts = partition
            .split(low_input)
            .into_iter()
            .zip(partition.split(spatial))
            .zip(partition.split_mut(&mut output));
        for_each_part(
            parts.collect(),
            |((input, spatial), output): ((&[T], &[T]), &mut [T])| {
                let mut active = Vec::new();
                for rows in sizes.row_tiles(input.len() / channels_in) {
                    let pixels = rows.start * sizes.up * sizes.output[1]
                        ..rows.end * sizes.up * sizes.output[1];
                    let spatial = &spatial[pixels.start * sizes.width..pixels.end * sizes.width];
                    let output =
                        &mut output[pixels.start * channels_out..pixels.end * channels_out];
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
