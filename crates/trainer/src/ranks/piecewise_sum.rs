//! The sum over ranks of vectors that lie on their GPUs, in the tree of [`tree_sum`](super::tree_sum).
//!
//! The same recursive halving and doubling: at each level a rank sends one half of its piece to its partner and adds the other, and then the pieces
//! go back. Which ranks contribute is known before, as it follows from the batch.

use std::ops::Range;

use vae_device_step::DeviceVector;

use super::RanksError;

/// The way of a vector's pieces from rank to rank.
pub(crate) trait Wire {
    /// Sends a piece of `from` to `partner` and receives one of `into` from it, which does the same with the pieces exchanged. Either may be empty.
    ///
    /// # Errors
    /// Where the other rank is lost.
    fn exchange(
        &mut self,
        partner: usize,
        from: (&DeviceVector, Range<usize>),
        into: (&DeviceVector, Range<usize>),
    ) -> Result<(), RanksError>;
}

/// The position of a rank among those whose vectors are added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) rank: usize,
    /// A power of two.
    pub(crate) size: usize,
    /// How many ranks contribute, the first ones.
    pub(crate) contributing: usize,
}

/// Makes `sum`, which is what this rank contributes or anything, the sum over all ranks. `received` has the same length, and any values.
///
/// # Errors
/// Where another rank is lost.
pub(crate) fn sum_pieces(
    Position {
        rank,
        size,
        contributing,
    }: Position,
    sum: &DeviceVector,
    received: &DeviceVector,
    wire: &mut dyn Wire,
) -> Result<(), RanksError> {
    let levels = size.ilog2();
    // Whether the ranks that were added up with this one before a level have anything.
    let has_any = |rank: usize, level: u32| (rank >> level) << level < contributing;
    let mut pieces = Vec::new();
    let mut piece = 0..sum.len();
    for level in 0..levels {
        let partner = rank ^ (1 << level);
        let halves = halves(&piece);
        let [kept, given] = if rank < partner {
            halves
        } else {
            let [lower, upper] = halves;
            [upper, lower]
        };
        let nothing = 0..0;
        match (has_any(rank, level), has_any(partner, level)) {
            (true, true) => {
                wire.exchange(partner, (sum, given.clone()), (received, kept.clone()))?;
                sum.add(received, kept.clone());
            }
            (true, false) => wire.exchange(partner, (sum, given.clone()), (received, nothing))?,
            (false, true) => wire.exchange(partner, (sum, nothing), (sum, kept.clone()))?,
            (false, false) => {}
        }
        pieces.push((partner, given));
        piece = kept;
    }
    // The pieces go back, and grow together.
    for (partner, given) in pieces.into_iter().rev() {
        wire.exchange(partner, (sum, piece.clone()), (sum, given.clone()))?;
        piece = piece.start.min(given.start)..piece.end.max(given.end);
    }
    Ok(())
}

/// Two pieces of about the same length; the second begins where pieces may.
fn halves(piece: &Range<usize>) -> [Range<usize>; 2] {
    let middle = piece.start + (piece.len() / 2).next_multiple_of(DeviceVector::ALIGNMENT);
    let middle = middle.min(piece.end);
    [piece.start..middle, middle..piece.end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_all_of_a_piece_and_begin_where_pieces_may() {
        for (start, end) in [(0, 1024), (0, 1152), (128, 256), (128, 384), (0, 0)] {
            let [lower, upper] = halves(&(start..end));
            assert_eq!((lower.start, upper.end), (start, end));
            assert_eq!(lower.end, upper.start);
            assert!(upper.is_empty() || upper.start % DeviceVector::ALIGNMENT == 0);
            assert!(lower.len().abs_diff(upper.len()) <= DeviceVector::ALIGNMENT);
        }
    }
}
