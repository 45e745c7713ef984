//! What the step on a GPU asks of the ranks that share its batch.

use std::ops::Range;

use run_files::metrics::BatchLoss;

use super::Replicas;
use crate::ranks::tree_sum::Contribution;
use crate::ranks::{Ranks, RanksError};
use crate::step::batch_parts::{equal_parts, micro_batches};

impl Replicas {
    /// Whether this rank has no device but the main one, on which shards have nothing to do with each other.
    pub(crate) fn are_none(&self) -> bool {
        self.workers.is_empty() && !self.shares_norms
    }

    /// Images of the largest pass that a batch is computed in.
    pub(crate) fn images_per_pass(&self, batch: usize, micro_batch_size: Option<usize>) -> usize {
        let shards = equal_parts(batch, self.shards());
        micro_batches(shards[0].len(), micro_batch_size)[0].len()
    }

    /// The images of a batch that this rank computes, and how many shards they are; none where the batch has none for it.
    pub(crate) fn own_images(&self, batch: usize) -> Option<(Range<usize>, usize)> {
        let own = self.groups(batch).into_iter().next()?;
        Some((own.images, own.shards))
    }

    /// The ranks that share each batch.
    pub(crate) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// How many ranks, the first ones, have images of a batch with so many.
    pub(crate) fn contributing(&self, batch: usize) -> usize {
        let of_rank = self.shards() / self.ranks.size();
        equal_parts(batch, self.shards()).len().div_ceil(of_rank)
    }

    /// The sum over all ranks of their losses; what they ask each other for goes with it.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub(crate) fn sum_losses(&mut self, own: Option<BatchLoss>) -> Result<BatchLoss, RanksError> {
        let own = own.map(|loss| Contribution {
            loss,
            ..Contribution::default()
        });
        Ok(self.sum_on_host(own, 0)?.loss)
    }
}
