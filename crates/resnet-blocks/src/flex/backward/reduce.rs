//! The last pass of backward: the reduce layer, and the sum with what comes around the block.

use burn_flex::FlexTensor;

use crate::flex::backward::spatial::Reduce;
use crate::flex::backward::sums::{Backward, NormSlope};
use crate::flex::block::spread;
use crate::flex::element::{Real, narrow, transpose};
use crate::flex::elementwise::centre;
use crate::flex::layout::from_channels_last;
use crate::flex::partition::{for_each_chunk, total};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::statistics::folded::FoldedGradient;
use crate::operation::Sizes;

/// What one thread works on: gradient, reduced map and input of some images, and where their gradient goes.
type Piece<'a, T> = (((&'a [T], &'a [T]), &'a [T]), &'a mut [T]);

/// The gradient that reaches the input around the block's convolutions.
pub(super) enum GradientAround<T> {
    Nothing,
    Identity(FlexTensor),
    Projection(Vec<T>),
}

impl<T: Real> Backward<'_, T> {
    /// The reduce layer's weight gradient `[channels_out, channels_in]`, and the gradient of the block's input.
    pub(super) fn reduce(
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
        let chunks = partition
            .split(&reduce.gradient)
            .into_iter()
            .zip(partition.split(&kept.reduced));
        let chunks = chunks
            .zip(partition.split(low_input))
            .zip(partition.split_mut(target));
        let products = for_each_chunk(
            chunks.collect(),
            |(((gradient, reduced), input), to): Piece<T>| {
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
        let chunks = partition
            .split(&low)
            .into_iter()
            .zip(partition.split_mut(&mut full))
            .collect();
        for_each_chunk(chunks, |(low, full)| spread(sizes, low, full));
        (product, Some(from_channels_last(full, dims)))
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
