//! Counter-based random numbers: every draw is a function of (draw, seed, epoch, position).

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What random numbers are drawn for; two of them never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataDraw {
    Shuffle,
    HeldOut,
    Augment,
}

/// The stream for one draw, seed, epoch and position.
///
/// The ChaCha key is 16 bytes of the draw, the seed and the epoch (little endian); the position is the stream number.
pub(crate) fn stream(draw: DataDraw, seed: u64, epoch: u64, position: u64) -> ChaCha8Rng {
    let tag: &[u8; 16] = match draw {
        DataDraw::Shuffle => b"cifar:shuffle:01",
        DataDraw::HeldOut => b"cifar:held-out:1",
        DataDraw::Augment => b"cifar:augment:01",
    };
    let mut key = [0; 32];
    key[..16].copy_from_slice(tag);
    key[16..24].copy_from_slice(&seed.to_le_bytes());
    key[24..].copy_from_slice(&epoch.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(position);
    rng
}

/// A number below `bound`, each equally likely (Lemire 2019, "Fast random integer generation in an interval").
///
/// Written out here because a sampling library may change its draws between versions.
pub(crate) fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    debug_assert!(bound > 0);
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

/// The numbers `0..len` in a random order (Fisher-Yates from the end).
pub(crate) fn permutation(draw: DataDraw, seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let len = u32::try_from(len).expect("a data set in memory has fewer than 2^32 images");
    let mut order: Vec<u32> = (0..len).collect();
    let mut rng = stream(draw, seed, epoch, 0);
    for last in (1..len).rev() {
        let chosen = below(&mut rng, last + 1);
        order.swap(last as usize, chosen as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A change of these numbers changes every training run. They hold on every platform, and come from a ChaCha8 and
    /// Fisher-Yates written separately in Python.
    #[test]
    fn shuffles_are_pinned() {
        assert_eq!(
            permutation(DataDraw::Shuffle, 0, 0, 10),
            [7, 9, 4, 2, 0, 8, 6, 5, 3, 1]
        );
        assert_eq!(
            permutation(DataDraw::Shuffle, 42, 3, 10),
            [1, 5, 8, 3, 0, 6, 9, 7, 4, 2]
        );
        assert_eq!(
            permutation(DataDraw::HeldOut, 42, 3, 10),
            [1, 8, 7, 6, 4, 9, 3, 2, 0, 5]
        );
    }

    #[test]
    fn every_order_of_three_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts
                .entry(permutation(DataDraw::Shuffle, 1, epoch, 3))
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Five standard deviations of a binomial with n = 6000, p = 1/6 are 144.
        assert!(
            counts.values().all(|count| (856..=1144).contains(count)),
            "{counts:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_permutation_holds_each_number_once(seed: u64, epoch: u64, len in 0usize..400) {
            let mut order = permutation(DataDraw::Shuffle, seed, epoch, len);
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..len as u32));
        }

        #[test]
        fn draws_stay_below_the_bound(seed: u64, bound in 1u32..) {
            let mut rng = stream(DataDraw::Augment, seed, 0, 0);
            prop_assert!((0..8).all(|_| below(&mut rng, bound) < bound));
        }
    }
}
