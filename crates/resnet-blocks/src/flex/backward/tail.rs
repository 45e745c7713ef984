//! The first pass of backward: the last ReLU, and all products with the masked gradient of the output.

use burn_flex::FlexTensor;

use crate::flex::backward::sums::Backward;
use crate::flex::block::Affine;
use crate::flex::element::{Real, narrow};
use crate::flex::elementwise::{activate_centred, centre, mask, mask_in_place};
use crate::flex::partition::{add, for_each_chunk, total};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::statistics::moments::channel_sums;
use crate::operation::{Around, Sizes};

/// What the masked gradient of the output gives.
pub(super) struct Tail<T> {
    /// Over all positions, and over those on the grid.
    pub(super) sums: Vec<f64>,
    pub(super) grid_sums: Vec<f64>,
    /// `[channels_in, channels_out]` of either layer, with the centred input.
    pub(super) expand_products: Vec<f64>,
    pub(super) shortcut_products: Vec<f64>,
    /// Not corrected yet.
    pub(super) expand_input: Vec<T>,
    pub(super) shortcut_input: Vec<T>,
}

impl<T: Real> Backward<'_, T> {
    pub(super) fn tail(&self, output: &[T], gradient: &mut FlexTensor) -> Tail<T> {
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
        let chunks = partition
            .split(low_input)
            .into_iter()
            .zip(partition.split(&kept.spatial))
            .zip(partition.split(output));
        let chunks = chunks.zip(masked).zip(plain);
        let chunks = chunks
            .zip(partition.split_mut(&mut expand_input))
            .zip(partition.split_mut(&mut shortcut_input));
        let chunks = chunks.map(
            |((((((input, spatial), output), masked), plain), to_expand), to_shortcut)| TailChunk {
                input,
                spatial,
                output,
                masked,
                plain,
                to_expand,
                to_shortcut,
            },
        );
        let sums = for_each_chunk(chunks.collect(), |chunk| {
            self.tail_of_chunk(chunk, &expand, shortcut.as_ref())
        });
        Tail {
            sums: total(&sums, |chunk| &chunk.sums),
            grid_sums: total(&sums, |chunk| &chunk.grid_sums),
            expand_products: total(&sums, |chunk| &chunk.expand_products),
            shortcut_products: total(&sums, |chunk| &chunk.shortcut_products),
            expand_input,
            shortcut_input,
        }
    }

    fn tail_of_chunk(
        &self,
        chunk: TailChunk<T>,
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
        for rows in sizes.row_tiles(chunk.input.len() / channels_in) {
            let pixels = rows.start * up * sizes.output[1]..rows.end * up * sizes.output[1];
            let low = rows.start * sizes.low[1]..rows.end * sizes.low[1];
            let wide = pixels.start * channels_out..pixels.end * channels_out;
            let output = &chunk.output[wide.clone()];
            let mut tile_sums = vec![T::ZERO; channels_out];
            let gradient: &[T] = if chunk.plain.is_empty() {
                mask_in_place(&mut chunk.masked[wide.clone()], output, &mut tile_sums);
                &chunk.masked[wide]
            } else {
                scratch.resize(output.len(), T::ZERO);
                mask(&chunk.plain[wide], output, &mut scratch, &mut tile_sums);
                &scratch
            };
            add(&mut sums.sums, &tile_sums);

            let narrow_range = pixels.start * width..pixels.end * width;
            active.resize(narrow_range.len(), T::ZERO);
            let Affine { scale, shift, .. } = &self.spatial;
            activate_centred(
                &chunk.spatial[narrow_range.clone()],
                scale,
                shift,
                &expand.mean,
                &mut active,
            );
            expand.apply(
                gradient,
                &active,
                Some(&mut chunk.to_expand[narrow_range]),
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
            centred.extend_from_slice(&chunk.input[low.clone()]);
            centre(&mut centred, &shortcut.mean);
            let to_shortcut = (!chunk.to_shortcut.is_empty()).then(|| &mut chunk.to_shortcut[low]);
            shortcut.apply(gradient, &centred, to_shortcut, &mut sums.shortcut_products);
        }
        if up == 1 {
            sums.grid_sums.copy_from_slice(&sums.sums);
        }
        sums
    }
}

struct TailChunk<'a, T> {
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
