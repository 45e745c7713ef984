//! What the passes of backward share: the maps they read, the sums they add up, and what a norm makes of these.

use crate::flex::block::Affine;
use crate::flex::element::{Real, narrow};
use crate::flex::elementwise::{activate_backward, norm_backward};
use crate::flex::forward::Kept;
use crate::flex::partition::{Partition, total};
use crate::flex::statistics::normalization::{NormGradient, Normalization};
use crate::operation::Sizes;

pub(super) struct Backward<'a, T> {
    pub(super) kept: &'a Kept<T>,
    pub(super) sizes: Sizes,
    pub(super) partition: Partition,
    pub(super) is_input_wanted: bool,
    /// Norms of the two narrow maps.
    pub(super) reduce: Affine<T>,
    pub(super) spatial: Affine<T>,
}

/// Sums over one chunk.
pub(super) struct ChunkSums<T> {
    pub(super) sum: Vec<T>,
    pub(super) weighted_sum: Vec<T>,
}

/// A norm's input gradient from its output's: `scale * gradient - constant - slope * (value - mean)`.
pub(super) struct NormSlope<T> {
    pub(super) scale: Vec<T>,
    pub(super) constant: Vec<T>,
    pub(super) slope: Vec<T>,
    pub(super) mean: Vec<T>,
}

impl<T: Real> NormSlope<T> {
    pub(super) fn new(norm: &Normalization, gradient: &NormGradient) -> Self {
        Self {
            scale: narrow(&norm.scale),
            constant: narrow(&gradient.constant),
            slope: narrow(&gradient.slope),
            mean: narrow(&norm.mean),
        }
    }

    pub(super) fn apply(&self, gradient: &[T], values: &[T], output: &mut [T]) {
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
    pub(super) fn activate_backward(
        &self,
        values: &[T],
        constant: &[T],
        gradient: &mut [T],
    ) -> ChunkSums<T> {
        let channels = self.scale.len();
        let (mut sum, mut weighted_sum) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
        let parameters = [&self.scale, &self.shift, &self.mean, constant];
        activate_backward(values, parameters, gradient, &mut sum, &mut weighted_sum);
        ChunkSums { sum, weighted_sum }
    }
}

/// The gradient of one of the narrow norms from the sums of this batch's chunks.
pub(super) fn norm_gradient<T: Real>(
    norm: &Normalization,
    kept: &Kept<T>,
    chunks: &[ChunkSums<T>],
) -> NormGradient {
    norm.shared_gradient(
        kept.shared.as_ref(),
        kept.positions,
        &total(chunks, |chunk| &chunk.sum),
        &total(chunks, |chunk| &chunk.weighted_sum),
    )
}
