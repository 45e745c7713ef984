//! How a batch is divided, over devices and into micro-batches.

use std::ops::Range;

/// Fewest images of a shard: batch norm over a single row would give nothing but its shift.
pub(super) const FEWEST: usize = 2;

/// Divides `images` into `count` shards in order, whose lengths differ by one at most, the longer ones first; into fewer
/// where a shard would have less than two images.
pub(crate) fn equal_shards(images: usize, count: usize) -> Vec<Range<usize>> {
    let count = count.min(images / FEWEST).max(1);
    let (length, longer) = (images / count, images % count);
    let mut start = 0;
    (0..count)
        .map(|index| {
            let end = start + length + usize::from(index < longer);
            let shard = start..end;
            start = end;
            shard
        })
        .collect()
}

/// Divides `images` into the fewest micro-batches of at most `most` images each, as [`equal_shards`]; where `most` is 2 and
/// `images` odd, one has three.
pub(crate) fn micro_batches(images: usize, most: Option<usize>) -> Vec<Range<usize>> {
    let count = most.map_or(1, |most| images.div_ceil(most.max(1)));
    equal_shards(images, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_partition_into_nearly_equal_lengths() {
        for images in 2..70 {
            for count in 1..12 {
                let shards = equal_shards(images, count);
                let all: Vec<usize> = shards.iter().cloned().flatten().collect();
                assert_eq!(all, (0..images).collect::<Vec<_>>());
                let lengths: Vec<usize> = shards.iter().map(ExactSizeIterator::len).collect();
                let (longest, shortest) = (lengths[0], lengths[lengths.len() - 1]);
                assert!(longest - shortest <= 1 && shortest >= 2, "{lengths:?}");
                assert!(shards.len() == count || images / count < 2);
            }
        }
    }

    #[test]
    fn a_micro_batch_is_no_longer_than_asked_for() {
        for images in 2..70 {
            for most in [None, Some(images)] {
                let passes = micro_batches(images, most);
                assert_eq!((passes.len(), &passes[0]), (1, &(0..images)));
            }
            for most in 2..images {
                let passes = micro_batches(images, Some(most));
                let longest = passes[0].len();
                assert!(longest <= most || (most == 2 && longest == 3));
                assert!(most == 2 || passes.len() == images.div_ceil(most));
            }
        }
        assert_eq!(micro_batches(25, Some(10)), [0..9, 9..17, 17..25]);
    }
}
