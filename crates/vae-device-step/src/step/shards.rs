//! Steps of a batch in shards, each with its own statistics: what they contribute is read, added by the caller, and given back for the update.

use burn::prelude::Tensor;
use cubecl::bytes::Bytes;
use cubecl::server::Handle;

use super::prepared::Work;
use super::{DeviceStep, StepInputs, StepRates};
use crate::flat::{create, read};
use crate::network::record_len;
use crate::outcome::{BatchTerms, Pending, StepError};

/// What a shard of a batch gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardPass {
    /// Sums over its images.
    pub terms: BatchTerms,
    /// The gradients of the mean of its objective but for the penalties, and what it has for the running statistics. The mean of the shards'
    /// values, each weighted with its images, is the batch's.
    pub values: Vec<f32>,
}

/// Where the terms of a sum are, and the weight of its moments in each running statistic.
pub(super) struct Summed {
    record: Handle,
    factors: Handle,
}

impl DeviceStep {
    /// The length of [`ShardPass::values`].
    pub fn pass_len(&self) -> usize {
        self.flat.layout.parameters + self.flat.layout.statistics
    }

    /// Each latent dimension's KL divergence in nats, summed over the images of a shard of a batch, which free bits ask for before any
    /// [`pass`](Self::pass). Waits for the device.
    ///
    /// # Errors
    /// If the inputs are on another device, or the device failed.
    pub fn kl_sums(&mut self, inputs: StepInputs) -> Result<Vec<f32>, StepError> {
        let sums = self.ask(inputs, Work::KlSums)?;
        crate::outcome::read(sums)
    }

    /// Sets what each latent dimension's divergence counts in the objective of every [`pass`](Self::pass) that follows: 1, or 0 where its mean over the
    /// whole batch is free.
    ///
    /// # Panics
    /// If there are not as many as latent dimensions.
    pub fn set_kl_slopes(&mut self, slopes: &[f32]) {
        assert_eq!(slopes.len(), self.network.latent_dim, "latent dimensions");
        let slopes = Bytes::from_elems(slopes.to_vec());
        self.client().write(&self.objective.kl_slopes, slopes);
    }

    /// Forward and backward of a shard of a batch; neither weights nor running statistics change. Waits for the device.
    ///
    /// # Errors
    /// If the inputs are on another device, or the device failed.
    pub fn pass(&mut self, inputs: StepInputs, rates: StepRates) -> Result<ShardPass, StepError> {
        let images: &Tensor<4> = &inputs.images;
        let batch = images.dims()[0];
        self.write_rates(rates);
        let record = self.ask(inputs, Work::Pass)?;
        let record = crate::outcome::read(record)?;
        let client = self.client();
        let mut values = read(client, &self.flat.gradients).map_err(StepError)?;
        let moments = read(client, &self.flat.moments).map_err(StepError)?;
        let unbiased = self.of_statistics(|norm, is_variance| match is_variance {
            true => self.variance_factor(norm, batch),
            false => 1.0,
        });
        let moments = moments.iter().zip(unbiased);
        values.extend(moments.map(|(moment, factor)| moment * factor));
        Ok(ShardPass {
            terms: BatchTerms::of(&record[..2 * batch]),
            values,
        })
    }

    /// The update with what the shards of a batch add up to: `values` is their weighted mean, `terms` their sum.
    ///
    /// # Errors
    /// If there are not [`pass_len`](Self::pass_len) values, or more than three steps have not been [observed](Self::observe).
    pub fn update(
        &mut self,
        values: &[f32],
        terms: BatchTerms,
        rates: StepRates,
    ) -> Result<Pending, StepError> {
        self.has_room()?;
        if values.len() != self.pass_len() {
            let text = format!("{} values of a sum of {}", values.len(), self.pass_len());
            return Err(StepError(text));
        }
        self.write_rates(rates);
        let summed = match self.summed.take() {
            Some(summed) => summed,
            None => self.summed_buffers(),
        };
        let client = self.client();
        let (gradients, moments) = values.split_at(self.flat.layout.parameters);
        client.write(&self.flat.gradients, Bytes::from_elems(gradients.to_vec()));
        client.write(&self.flat.moments, Bytes::from_elems(moments.to_vec()));
        let mut record = vec![0.0; record_len(1)];
        record[..2].copy_from_slice(&[terms.cross_entropy as f32, terms.kl as f32]);
        client.write(&summed.record, Bytes::from_elems(record));
        self.end(&summed.record, 1, &summed.factors);
        let reading = self.read_later(summed.record.clone());
        self.summed = Some(summed);
        self.unread += 1;
        Ok(Pending {
            reading,
            batch: 1,
            has_free_bits: false,
            chunk_names: self.tables.names.clone(),
        })
    }

    fn summed_buffers(&self) -> Summed {
        let client = self.client();
        let factors = self.of_statistics(|norm, _| norm.momentum);
        client.memory_persistent_allocation((), |()| Summed {
            record: client.empty(4 * record_len(1)),
            factors: create(client, &factors),
        })
    }
}
