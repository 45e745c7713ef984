//! What the step on a GPU asks of the ranks that share its batch.

use burn::prelude::Device;
use run_files::metrics::BatchLoss;

use super::{Replicas, Worker};
use crate::experiment::model::ModelConfig;
use crate::ranks::batch_division::{equal_shards, micro_batches};
use crate::ranks::tree_sum::Contribution;
use crate::ranks::{Ranks, RanksError};

impl Replicas {
    /// Whether shards have nothing to do with each other but for the sum of what they contribute.
    pub(crate) fn are_independent(&self) -> bool {
        !self.shares_norms
    }

    /// The devices beside the main one, and the form of the model there.
    pub(crate) fn worker_devices(&self) -> impl Iterator<Item = (&ModelConfig, &Device)> {
        self.workers.iter().map(Worker::place)
    }

    /// Images of the largest pass that a batch is computed in.
    pub(crate) fn images_per_pass(&self, batch: usize, micro_batch_size: Option<usize>) -> usize {
        let shards = equal_shards(batch, self.shards());
        micro_batches(shards[0].len(), micro_batch_size)[0].len()
    }

    /// The ranks that share each batch.
    pub(crate) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// How many ranks, the first ones, have images of a batch with so many.
    pub(crate) fn contributing(&self, batch: usize) -> usize {
        let of_rank = self.shards() / self.ranks.size();
        equal_shards(batch, self.shards()).len().div_ceil(of_rank)
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
