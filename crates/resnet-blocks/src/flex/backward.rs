//! The backward pass of a whole bottleneck.
//!
//! Four passes over the batch, the mirror image of [`forward`](crate::flex::forward): activations are recomputed from the
//! narrow maps by scale and shift. The output's gradient is read once:
//!
//! 1. the last ReLU, and all products with the masked gradient: those that give the gradients of expand and shortcut and
//!    those that lead to their inputs, whose norms' corrections follow once the sums over the batch are known;
//! 2. the correction of expand's input gradient, and the ReLU behind the 3x3 convolution;
//! 3. its norm, the 3x3 convolution's weights and input, and the ReLU before it;
//! 4. its norm, the reduce product's weights and input, and the shortcut's correction.

use burn_flex::FlexTensor;

use crate::flex::block::{Affine, Around, Sizes, position, spread};
use crate::flex::element::{Real, narrow, relu, transpose};
use crate::flex::elementwise::{
    activate_backward, activate_centred, centre, mask, mask_in_place, norm_backward,
};
use crate::flex::folded::FoldedGradient;
use crate::flex::forward::Kept;
use crate::flex::interleaved::{REGIONS, constant_gradients};
use crate::flex::layout::{channels_last, dense, from_channels_last};
use crate::flex::moments::channel_sums;
use crate::flex::normalization::{NormGradient, Normalization};
use crate::flex::partition::{Partition, add, for_each_part, total};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::spatial::{Kernel, add_weight_gradient, convolve};

/// The gradients of all inputs, in their order; that of the image batch only where it is wanted.
///
/// - output: of the block, `[batch, height, width, channels_out]`
/// - gradient: of the output, `[batch, channels_out, height, width]`
pub(crate) fn backward<T: Real>(
    kept: &Kept<T>,
    output: &FlexTensor,
    gradient: FlexTensor,
    is_input_wanted: bool,
) -> Vec<Option<FlexTensor>> {
    let sizes = kept.sizes;
    let backward = Backward {
        kept,
        sizes,
        partition: Partition::new(sizes.batch, sizes.output_pixels()),
        is_input_wanted,
        reduce: Affine::new(&kept.reduce_norm),
        spatial: Affine::new(&kept.spatial_norm),
    };
    let mut gradient = channels_last(gradient);
    let mut tail = backward.tail(output.storage::<T>(), &mut gradient);
    let expand = kept
        .expand
        .gradient(&tail.expand_products, &tail.sums, &tail.sums);
    let shortcut = kept
        .shortcut
        .as_ref()
        .map(|folded| folded.gradient(&tail.shortcut_products, &tail.grid_sums, &tail.sums));

    let spatial = backward.expand_input(&expand, &mut tail.expand_input);
    let reduce = backward.spatial(&spatial, &tail.expand_input);
    let around = match kept.config.around {
        // The masked gradient itself.
        Around::Identity => GradientAround::Identity(gradient),
        Around::Projection => GradientAround::Projection(tail.shortcut_input),
        Around::Nothing => GradientAround::Nothing,
    };
    let (reduce_weight, input) = backward.reduce(&reduce, around, shortcut.as_ref());

    let (inner, channels_out) = (sizes.width, sizes.channels_out);
    let pointwise = |values: Vec<f64>, outputs: usize, inputs: usize, is_exchanged: bool| {
        if is_exchanged {
            dense::<T>(
                narrow(&transpose(&values, outputs, inputs)),
                &[inputs, outputs, 1, 1],
            )
        } else {
            dense::<T>(narrow(&values), &[outputs, inputs, 1, 1])
        }
    };
    // A bias before a norm has no influence.
    let vectors = |gamma: &[f64], beta: &[f64]| {
        [&vec![0.0; gamma.len()], gamma, beta]
            .map(|values| dense::<T>(narrow(values), &[values.len()]))
    };
    let is_exchanged = kept.config.is_transposed;
    let mut gradients = vec![pointwise(
        reduce_weight,
        inner,
        sizes.channels_in,
        is_exchanged,
    )];
    gradients.extend(vectors(&reduce.norm.gamma, &reduce.norm.beta));
    let kernel = Kernel::<T>::restore(&reduce.kernel, inner);
    gradients.push(dense::<T>(narrow(&kernel), &[inner, inner, 3, 3]));
    gradients.extend(vectors(&spatial.gamma, &spatial.beta));
    gradients.push(pointwise(expand.weight, channels_out, inner, false));
    gradients.extend(vectors(&expand.gamma, &expand.beta));
    if let Some(shortcut) = shortcut {
        gradients.push(pointwise(
            shortcut.weight,
            channels_out,
            sizes.channels_in,
            is_exchanged,
        ));
        gradients.extend(vectors(&shortcut.gamma, &shortcut.beta));
    }
    debug_assert_eq!(gradients.len() % 4, 0);
    let mut all = Vec::with_capacity(position::REDUCE + gradients.len());
    all.push(input);
    all.extend(gradients.into_iter().map(Some));
    all
}

struct Backward<'a, T> {
    kept: &'a Kept<T>,
    sizes: Sizes,
    partition: Partition,
    is_input_wanted: bool,
    /// Norms of the two narrow maps.
    reduce: Affine<T>,
    spatial: Affine<T>,
}

/// What the masked gradient of the output gives.
struct Tail<T> {
    /// Over all positions, and over those on the grid.
    sums: Vec<f64>,
    grid_sums: Vec<f64>,
    /// `[channels_in, channels_out]` of either layer, with the centred input.
    expand_products: Vec<f64>,
    shortcut_products: Vec<f64>,
    /// Not corrected yet.
    expand_input: Vec<T>,
    shortcut_input: Vec<T>,
}

/// What the 3x3 convolution and the norm before it need.
struct Reduce<T> {
    /// Gradient behind the reduce layer's norm, on the grid.
    gradient: Vec<T>,
    norm: NormGradient,
    /// In the order of [`Kernel::forward`].
    kernel: Vec<f64>,
}

enum GradientAround<T> {
    Nothing,
    Identity(FlexTensor),
    Projection(Vec<T>),
}

/// Sums over one part.
struct PartSums<T> {
    sum: Vec<T>,
    weighted_sum: Vec<T>,
}

impl<T: Real> Backward<'_, T> {
    fn tail(&self, output: &[T], gradient: &mut FlexTensor) -> Tail<T> {
        let (kept, partition) = (self.kept, &self.partition);
        let is_identity = kept.config.around == Around::Identity;
        let low_input = kept.low_input();
        let mut expand_input = vec![T::ZERO; kept.spatial.len()];
        let wants_shortcut_input = self.is_input_wanted && kept.shortcut.is_some();
        let mut shortcut_input = vec![
            T::ZERO;
            if wants_shortcut_input {
                low_input.len()
            } else {
                0
            }
        ];
        let expand = Products::new(kept.expand.scaled_weight(), &kept.expand.input.mean);
        let shortcut = kept
            .shortcut
            .as_ref()
            .map(|folded| Products::<T>::new(folded.scaled_weight(), &folded.input.mean));

        // With an identity around, the masked gradient is part of the input's and stays in place of the gradient.
        let (masked, plain): (Vec<&mut [T]>, Vec<&[T]>) = if is_identity {
            (
                partition.split_mut(gradient.storage_mut::<T>()),
                partition.split(&[]),
            )
        } else {
            (
                partition.split_mut(&mut []),
                partition.split(gradient.storage::<T>()),
            )
        };
        let parts = partition
            .split(low_input)
            .into_iter()
            .zip(partition.split(&kept.spatial))
            .zip(partition.split(output));
        let parts = parts.zip(masked).zip(plain);
        let parts = parts
            .zip(partition.split_mut(&mut expand_input))
            .zip(partition.split_mut(&mut shortcut_input));
        let parts = parts.map(
            |((((((input, spatial), output), masked), plain), to_expand), to_shortcut)| TailPart {
                input,
                spatial,
                output,
                masked,
                plain,
                to_expand,
                to_shortcut,
            },
        );
        let sums = for_each_part(parts.collect(), |part| {
            self.tail_of_part(part, &expand, shortcut.as_ref())
        });
        Tail {
            sums: total(&sums, |part| &part.sums),
            grid_sums: total(&sums, |part| &part.grid_sums),
            expand_products: total(&sums, |part| &part.expand_products),
            shortcut_products: total(&sums, |part| &part.shortcut_products),
            expand_input,
            shortcut_input,
        }
    }

    fn tail_of_part(
        &self,
        part: TailPart<T>,
        expand: &Products<T>,
        shortcut: Option<&Products<T>>,
    ) -> TailSums<T> {
        let sizes = &self.sizes;
        let Sizes {
            channels_in,
            channels_out,
            width,
            up,
            ..
        } = *sizes;
        let mut sums = TailSums {
            sums: vec![0.0; channels_out],
            grid_sums: vec![0.0; channels_out],
            expand_products: vec![T::ZERO; width * channels_out],
            shortcut_products: vec![
                T::ZERO;
                if shortcut.is_some() {
                    channels_in * channels_out
                } else {
                    0
                }
            ],
        };
        let (mut scratch, mut active, mut centred, mut on_grid) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for rows in sizes.row_tiles(part.input.len() / channels_in) {
            let pixels = rows.start * up * sizes.output[1]..rows.end * up * sizes.output[1];
            let low = rows.start * sizes.low[1]..rows.end * sizes.low[1];
            let wide = pixels.start * channels_out..pixels.end * channels_out;
            let output = &part.output[wide.clone()];
            let mut tile_sums = vec![T::ZERO; channels_out];
            let gradient: &[T] = if part.plain.is_empty() {
                mask_in_place(&mut part.masked[wide.clone()], output, &mut tile_sums);
                &part.masked[wide]
            } else {
                scratch.resize(output.len(), T::ZERO);
                mask(&part.plain[wide], output, &mut scratch, &mut tile_sums);
                &scratch
            };
            add(&mut sums.sums, &tile_sums);

            let narrow_range = pixels.start * width..pixels.end * width;
            active.resize(narrow_range.len(), T::ZERO);
            let Affine { scale, shift, .. } = &self.spatial;
            activate_centred(
                &part.spatial[narrow_range.clone()],
                scale,
                shift,
                &expand.mean,
                &mut active,
            );
            expand.apply(
                gradient,
                &active,
                Some(&mut part.to_expand[narrow_range]),
                &mut sums.expand_products,
            );

            let Some(shortcut) = shortcut else { continue };
            let gradient = if up == 1 {
                gradient
            } else {
                take_grid(sizes, gradient, &mut on_grid);
                add(&mut sums.grid_sums, &channel_sums(&on_grid, channels_out));
                &on_grid
            };
            let low = low.start * channels_in..low.end * channels_in;
            centred.clear();
            centred.extend_from_slice(&part.input[low.clone()]);
            centre(&mut centred, &shortcut.mean);
            let to_shortcut = (!part.to_shortcut.is_empty()).then(|| &mut part.to_shortcut[low]);
            shortcut.apply(gradient, &centred, to_shortcut, &mut sums.shortcut_products);
        }
        if up == 1 {
            sums.grid_sums.copy_from_slice(&sums.sums);
        }
        sums
    }

    /// Turns `gradient` into that behind the spatial layer's norm; returns that norm's gradients.
    fn expand_input(&self, expand: &FoldedGradient, gradient: &mut [T]) -> NormGradient {
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
        let parts = self
            .partition
            .split(&self.kept.spatial)
            .into_iter()
            .zip(self.partition.split_mut(gradient))
            .collect();
        let sums = for_each_part(parts, |(spatial, gradient): (&[T], &mut [T])| {
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
        norm_gradient(
            &self.kept.spatial_norm,
            (self.sizes.batch * self.sizes.output_pixels()) as f64,
            &sums,
        )
    }

    /// From the gradient behind the spatial layer's norm to that behind the reduce layer's.
    fn spatial(&self, norm: &NormGradient, gradient: &[T]) -> Reduce<T> {
        let (kept, sizes) = (self.kept, &self.sizes);
        let slope = NormSlope::<T>::new(&kept.spatial_norm, norm);
        let mut reduced_gradient = vec![T::ZERO; kept.reduced.len()];
        let parts = self
            .partition
            .split(gradient)
            .into_iter()
            .zip(self.partition.split(&kept.spatial));
        let parts = parts
            .zip(self.partition.split(&kept.reduced))
            .zip(self.partition.split_mut(&mut reduced_gradient));
        let parts = parts
            .map(|(((gradient, spatial), reduced), to)| SpatialPart {
                gradient,
                spatial,
                reduced,
                to,
            })
            .collect();
        let count = (sizes.batch * sizes.output_pixels()) as f64;
        let (norm, kernel) = if sizes.up == 1 {
            let sums = for_each_part(parts, |part| self.spatial_of_part(part, &slope));
            let kernel = total(&sums, |(kernel, _)| kernel);
            let sums: Vec<_> = sums.into_iter().map(|(_, sums)| sums).collect();
            (norm_gradient(&kept.reduce_norm, count, &sums), kernel)
        } else {
            let sums = for_each_part(parts, |part| self.interleaved_of_part(part, &slope));
            let mut kernel = total(&sums, |part| &part.kernel);
            let (norm, wide) = (&kept.reduce_norm, |values: &[T]| {
                values.iter().map(|value| value.widen()).collect::<Vec<_>>()
            });
            let constant: Vec<f64> = norm.shift.iter().map(|shift| relu(*shift)).collect();
            let regions = total(&sums, |part| &part.regions);
            let everywhere = constant_gradients(
                &constant,
                &wide(&kept.kernel.forward),
                &regions,
                &mut kernel,
            );
            let on_grid = total(&sums, |part| &part.unmasked_sum);
            let (mut sum, mut weighted) = (
                total(&sums, |part| &part.sums.sum),
                total(&sums, |part| &part.sums.weighted_sum),
            );
            for channel in 0..sizes.width {
                // The positions beside the grid: the norm's input is zero there, its output the shift.
                if !(norm.shift[channel] <= 0.0) {
                    let beside = everywhere[channel] - on_grid[channel];
                    sum[channel] += beside;
                    weighted[channel] -= norm.mean[channel] * beside;
                }
            }
            (norm.gradient(count, &sum, &weighted), kernel)
        };
        Reduce {
            gradient: reduced_gradient,
            norm,
            kernel,
        }
    }

    fn spatial_of_part(&self, part: SpatialPart<T>, slope: &NormSlope<T>) -> (Vec<T>, PartSums<T>) {
        let image = self.sizes.image();
        let row_len = image.width * image.channels;
        let mut kernel = vec![T::ZERO; 9 * image.channels * image.channels];
        let [mut active, mut padded] = [0, 1].map(|_| vec![T::ZERO; image.padded_len()]);
        let mut scratch = vec![T::ZERO; image.output_len()];
        let len = image.height * row_len;
        let images = part
            .gradient
            .chunks_exact(len)
            .zip(part.spatial.chunks_exact(len));
        for (((gradient, spatial), reduced), to) in images
            .zip(part.reduced.chunks_exact(len))
            .zip(part.to.chunks_exact_mut(len))
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
            self.reduce
                .activate_backward(part.reduced, &vec![T::ZERO; self.sizes.width], part.to),
        )
    }

    fn interleaved_of_part(
        &self,
        part: SpatialPart<T>,
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
        let images = part
            .gradient
            .chunks_exact(full.len())
            .zip(part.spatial.chunks_exact(full.len()));
        let low_len = grid.low.height * low_row_len;
        for (((gradient, spatial), reduced), to) in images
            .zip(part.reduced.chunks_exact(low_len))
            .zip(part.to.chunks_exact_mut(low_len))
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
        let unmasked_sum = channel_sums(part.to, channels);
        InterleavedSums {
            kernel,
            regions,
            unmasked_sum,
            sums: self.reduce.activate_backward(
                part.reduced,
                &vec![T::ZERO; self.sizes.width],
                part.to,
            ),
        }
    }

    /// The reduce layer's weight gradient `[channels_out, channels_in]`, and the gradient of the block's input.
    fn reduce(
        &self,
        reduce: &Reduce<T>,
        mut around: GradientAround<T>,
        shortcut: Option<&FoldedGradient>,
    ) -> (Vec<f64>, Option<FlexTensor>) {
        let (kept, sizes, partition) = (self.kept, &self.sizes, &self.partition);
        let Sizes {
            channels_in, width, ..
        } = *sizes;
        let slope = NormSlope::<T>::new(&kept.reduce_norm, &reduce.norm);
        let weight: Vec<T> = narrow(&kept.reduce_weight);
        let low_input = kept.low_input();
        let correction = shortcut.map(|gradient| Correction::<T> {
            matrix: gradient
                .correction
                .iter()
                .map(|value| T::narrow(-value))
                .collect(),
            constant: narrow(&gradient.constant),
            mean: narrow(
                &kept
                    .shortcut
                    .as_ref()
                    .expect("its gradient exists")
                    .input
                    .mean,
            ),
        });
        let mut fresh = Vec::new();
        let (target, mode): (&mut [T], _) = match &mut around {
            _ if !self.is_input_wanted => (&mut [], Mode::Overwrite),
            GradientAround::Identity(gradient) => (gradient.storage_mut::<T>(), Mode::Accumulate),
            GradientAround::Projection(gradient) => (gradient.as_mut_slice(), Mode::Accumulate),
            GradientAround::Nothing => {
                fresh.resize(low_input.len(), T::ZERO);
                (fresh.as_mut_slice(), Mode::Overwrite)
            }
        };
        let parts = partition
            .split(&reduce.gradient)
            .into_iter()
            .zip(partition.split(&kept.reduced));
        let parts = parts
            .zip(partition.split(low_input))
            .zip(partition.split_mut(target));
        let products = for_each_part(
            parts.collect(),
            |(((gradient, reduced), input), to): (((&[T], &[T]), &[T]), &mut [T])| {
                let pixels = input.len() / channels_in;
                let mut before_norm = vec![T::ZERO; gradient.len()];
                slope.apply(gradient, reduced, &mut before_norm);
                let mut product = vec![T::ZERO; channels_in * width];
                multiply(
                    &mut product,
                    width,
                    [width, channels_in, pixels],
                    Factor::columns(&before_norm, width),
                    Factor::rows(input, channels_in),
                    Mode::Overwrite,
                );
                if to.is_empty() {
                    return product;
                }
                multiply(
                    to,
                    channels_in,
                    [channels_in, pixels, width],
                    Factor::columns(&weight, channels_in),
                    Factor::columns(&before_norm, width),
                    mode,
                );
                if let Some(correction) = &correction {
                    correction.apply(input, to);
                }
                product
            },
        );
        let product = transpose(&total(&products, |product| product), channels_in, width);
        let [height, columns] = sizes.input;
        let dims = [sizes.batch, height, columns, channels_in];
        let low = match around {
            _ if !self.is_input_wanted => return (product, None),
            GradientAround::Identity(gradient) => {
                return (product, Some(gradient.permute(&[0, 3, 1, 2])));
            }
            GradientAround::Projection(gradient) => gradient,
            GradientAround::Nothing => fresh,
        };
        if sizes.down == 1 {
            return (product, Some(from_channels_last(low, dims)));
        }
        let mut full = vec![T::ZERO; dims.iter().product()];
        let parts = partition
            .split(&low)
            .into_iter()
            .zip(partition.split_mut(&mut full))
            .collect();
        for_each_part(parts, |(low, full)| spread(sizes, low, full));
        (product, Some(from_channels_last(full, dims)))
    }
}

struct TailPart<'a, T> {
    input: &'a [T],
    spatial: &'a [T],
    output: &'a [T],
    /// The gradient, to be masked in place, where it is part of the input's; empty elsewhere.
    masked: &'a mut [T],
    /// The gradient where it is not; empty elsewhere.
    plain: &'a [T],
    to_expand: &'a mut [T],
    /// Empty where nobody wants it.
    to_shortcut: &'a mut [T],
}

struct TailSums<T> {
    sums: Vec<f64>,
    grid_sums: Vec<f64>,
    expand_products: Vec<T>,
    shortcut_products: Vec<T>,
}

struct SpatialPart<'a, T> {
    gradient: &'a [T],
    spatial: &'a [T],
    reduced: &'a [T],
    to: &'a mut [T],
}

struct InterleavedSums<T> {
    kernel: Vec<T>,
    regions: Vec<T>,
    unmasked_sum: Vec<T>,
    sums: PartSums<T>,
}

/// A folded layer as its output's gradient meets it.
struct Products<T> {
    /// `diag(scale) W`, transposed: `[channels_in, channels_out]`.
    weight: Vec<T>,
    /// Of the layer's input.
    mean: Vec<T>,
}

impl<T: Real> Products<T> {
    fn new(weight: Vec<f64>, mean: &[f64]) -> Self {
        Self {
            weight: narrow(&weight),
            mean: narrow(mean),
        }
    }

    /// The product that leads to the layer's input, and, added to `total`, the one that leads to its weights.
    fn apply(
        &self,
        gradient: &[T],
        centred_input: &[T],
        to_input: Option<&mut [T]>,
        total: &mut [T],
    ) {
        let inputs = self.mean.len();
        let outputs = self.weight.len() / inputs;
        let pixels = gradient.len() / outputs;
        if let Some(to_input) = to_input {
            multiply(
                to_input,
                inputs,
                [inputs, pixels, outputs],
                Factor::rows(&self.weight, outputs),
                Factor::columns(gradient, outputs),
                Mode::Overwrite,
            );
        }
        multiply(
            total,
            outputs,
            [outputs, inputs, pixels],
            Factor::columns(gradient, outputs),
            Factor::rows(centred_input, inputs),
            Mode::Accumulate,
        );
    }
}

/// What a folded norm takes off its input's gradient.
struct Correction<T> {
    /// Negative.
    matrix: Vec<T>,
    constant: Vec<T>,
    mean: Vec<T>,
}

impl<T: Real> Correction<T> {
    fn apply(&self, input: &[T], gradient: &mut [T]) {
        let channels = self.mean.len();
        let mut centred = input.to_vec();
        centre(&mut centred, &self.mean);
        multiply(
            gradient,
            channels,
            [channels, input.len() / channels, channels],
            Factor::columns(&self.matrix, channels),
            Factor::columns(&centred, channels),
            Mode::Accumulate,
        );
        centre(gradient, &self.constant);
    }
}

/// A norm's input gradient from its output's: `scale * gradient - constant - slope * (value - mean)`.
struct NormSlope<T> {
    scale: Vec<T>,
    constant: Vec<T>,
    slope: Vec<T>,
    mean: Vec<T>,
}

impl<T: Real> NormSlope<T> {
    fn new(norm: &Normalization, gradient: &NormGradient) -> Self {
        Self {
            scale: narrow(&norm.scale),
            constant: narrow(&gradient.constant),
            slope: narrow(&gradient.slope),
            mean: narrow(&norm.mean),
        }
    }

    fn apply(&self, gradient: &[T], values: &[T], output: &mut [T]) {
        norm_backward(
            gradient,
            values,
            [&self.scale, &self.constant, &self.slope, &self.mean],
            output,
        );
    }
}

impl<T: Real> Affine<T> {
    /// The gradient behind the norm from that behind the ReLU less `constant`, in place; its sums plain and times the
    /// centred values.
    fn activate_backward(&self, values: &[T], constant: &[T], gradient: &mut [T]) -> PartSums<T> {
        let channels = self.scale.len();
        let (mut sum, mut weighted_sum) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
        let parameters = [&self.scale, &self.shift, &self.mean, constant];
        activate_backward(values, parameters, gradient, &mut sum, &mut weighted_sum);
        PartSums { sum, weighted_sum }
    }
}

fn norm_gradient<T: Real>(norm: &Normalization, count: f64, parts: &[PartSums<T>]) -> NormGradient {
    norm.gradient(
        count,
        &total(parts, |part| &part.sum),
        &total(parts, |part| &part.weighted_sum),
    )
}

/// The pixels that stand on the grid, one after the other.
fn take_grid<T: Real>(sizes: &Sizes, wide: &[T], on_grid: &mut Vec<T>) {
    let channels = sizes.channels_out;
    on_grid.clear();
    for row in wide
        .chunks_exact(sizes.output[1] * channels)
        .step_by(sizes.up)
    {
        row.chunks_exact(channels)
            .step_by(sizes.up)
            .for_each(|pixel| on_grid.extend_from_slice(pixel));
    }
}
