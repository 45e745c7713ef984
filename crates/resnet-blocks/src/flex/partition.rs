//! The batch in chunks that threads work on.
//!
//! The chunks depend on the shape alone and their partial sums are combined in order, so that results do not depend on the
//! number of threads.

use rayon::prelude::*;

use crate::flex::element::Real;

/// Pixels that a chunk should have at least, where the batch has enough images.
const PIXELS: usize = 1024;
/// Chunks that a batch is divided into at least, where it has enough images.
const CHUNKS: usize = 8;

/// Consecutive images, the same number in every chunk but the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    images: usize,
    images_per_chunk: usize,
}

impl Partition {
    pub(crate) fn new(images: usize, pixels_per_image: usize) -> Self {
        let wanted = PIXELS / pixels_per_image.max(1);
        let images_per_chunk = wanted.min(images.div_ceil(CHUNKS)).max(1);
        Self {
            images,
            images_per_chunk,
        }
    }

    fn len(&self) -> usize {
        self.images.div_ceil(self.images_per_chunk)
    }

    /// The values of each chunk; empty slices where there are no values at all.
    pub(crate) fn split<'a, T>(&self, values: &'a [T]) -> Vec<&'a [T]> {
        if values.is_empty() {
            return vec![&[]; self.len()];
        }
        assert!(values.len().is_multiple_of(self.images));
        values
            .chunks(values.len() / self.images * self.images_per_chunk)
            .collect()
    }

    /// The same for values to write.
    pub(crate) fn split_mut<'a, T>(&self, values: &'a mut [T]) -> Vec<&'a mut [T]> {
        if values.is_empty() {
            return (0..self.len()).map(|_| [].as_mut_slice()).collect();
        }
        assert!(values.len().is_multiple_of(self.images));
        values
            .chunks_mut(values.len() / self.images * self.images_per_chunk)
            .collect()
    }
}

/// Applies `work` to every chunk in parallel; the results are in the chunks' order.
pub(crate) fn for_each_chunk<P: Send, R: Send>(
    chunks: Vec<P>,
    work: impl Fn(P) -> R + Sync + Send,
) -> Vec<R> {
    chunks.into_par_iter().with_max_len(1).map(work).collect()
}

/// Adds `values` to `totals`, element by element.
pub(crate) fn add<T: Real>(totals: &mut [f64], values: &[T]) {
    assert_eq!(totals.len(), values.len());
    for (total, value) in totals.iter_mut().zip(values) {
        *total += value.widen();
    }
}

/// The element-wise sum of one field of every chunk, in the chunks' order.
pub(crate) fn total<'a, R, T: Real>(chunks: &'a [R], field: impl Fn(&'a R) -> &'a [T]) -> Vec<f64> {
    let mut totals = vec![0.0; chunks.first().map_or(0, |chunk| field(chunk).len())];
    for chunk in chunks {
        add(&mut totals, field(chunk));
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_batch_in_order() {
        for (images, pixels) in [
            (1, 1),
            (25, 16),
            (25, 64),
            (25, 256),
            (25, 1024),
            (128, 16),
            (7, 4096),
        ] {
            let partition = Partition::new(images, pixels);
            let mut values: Vec<usize> = (0..images * 3).collect();
            let joined: Vec<usize> = partition.split(&values).concat();
            assert_eq!(joined, values);
            assert_eq!(
                partition.split::<u8>(&[]).len(),
                partition.split_mut(&mut values).len()
            );
            assert_eq!(partition.split_mut::<u8>(&mut []).len(), partition.len());
        }
    }

    #[test]
    fn totals_are_combined_in_order() {
        let chunks = for_each_chunk(vec![1.0f32, 2.0, 3.0], |value| vec![value, -value]);
        assert_eq!(total(&chunks, |chunk| chunk), [6.0, -6.0]);
    }
}
