//! Steps of a batch in shards, each with its own statistics: what they contribute stays on the device, where the caller adds it up for the update.

use cubecl::bytes::Bytes;
use resnet_blocks::cube::{Queue, Storage, Vector32, cubes, units};

use super::DeviceStep;
use super::buffers::{Shape, Summed, Work};
use super::inputs::{StepInputs, StepRates};
use crate::flat::{argument, create};
use crate::kernels::shards;
use crate::network::record_len;
use crate::outcome::{BatchTerms, Pending, StepError};
use crate::vector::DeviceVector;

/// What a shard of a batch gives.
pub struct ShardPass {
    /// Sums over its images.
    pub terms: BatchTerms,
    /// The gradients of the mean of its objective but for the penalties, and behind them what it has for the running statistics, times its share of
    /// the batch: the batch's are the sum over its shards.
    pub values: DeviceVector,
}

impl DeviceStep {
    /// Values of [`ShardPass::values`].
    pub fn pass_len(&self) -> usize {
        self.flat.layout.parameters + self.flat.layout.statistics
    }

    /// Each latent dimension's KL divergence in nats, summed over the images of a shard of a batch, which free bits ask for before any
    /// [`pass`](Self::pass). Waits for the device.
    ///
    /// # Errors
    /// If the inputs are on another device, or the device failed.
    pub fn kl_sums(&mut self, inputs: StepInputs) -> Result<Vec<f32>, StepError> {
        let shape = Shape::of(&inputs, Work::KlSums);
        let sums = self.ask(inputs, shape)?;
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

    /// Forward and backward of a shard of a batch, which has that share of its images; neither weights nor running statistics change. Waits for the
    /// device.
    ///
    /// # Errors
    /// If the inputs are on another device, or the device failed.
    pub fn pass(
        &mut self,
        inputs: StepInputs,
        share: f32,
        rates: StepRates,
    ) -> Result<ShardPass, StepError> {
        let shape = Shape::of(&inputs, Work::Pass);
        let batch = shape.batch;
        self.write_rates(rates);
        let record = self.ask(inputs, shape)?;
        let values = self.new_vector();
        let (flat, prepared) = (&self.flat, &self.prepared[&shape]);
        let (parameters, statistics) = (flat.layout.parameters, flat.layout.statistics);
        // SAFETY: one unit a value of each, and the buffers have as many as they were made with.
        unsafe {
            shards::weigh::launch_unchecked(
                self.client(),
                cubes(values.len()),
                units(),
                argument(&flat.gradients, parameters),
                argument(&flat.moments, statistics),
                argument(&prepared.factors, statistics),
                values.argument(),
                parameters,
                parameters + statistics,
                share,
            );
        }
        let record = crate::outcome::read(record)?;
        self.check()?;
        Ok(ShardPass {
            terms: BatchTerms::of(&record[..2 * batch], batch),
            values,
        })
    }

    /// A vector of [`pass_len`](Self::pass_len) values, which may be any.
    pub fn new_vector(&self) -> DeviceVector {
        let queue = Queue::with_workspace(self.client().clone(), self.sums.clone());
        DeviceVector::empty(&queue, self.pass_len())
    }

    /// The update with the sums over all shards of a batch: `values` and `terms`.
    ///
    /// # Errors
    /// If there are not [`pass_len`](Self::pass_len) values, or more than three steps have not been [observed](Self::observe).
    pub fn update(
        &mut self,
        values: &DeviceVector,
        terms: BatchTerms,
        rates: StepRates,
    ) -> Result<Pending, StepError> {
        self.has_room()?;
        self.check()?;
        if values.len() != self.pass_len() {
            let text = format!("{} values of a sum of {}", values.len(), self.pass_len());
            return Err(StepError(text));
        }
        self.write_rates(rates);
        let summed = match self.summed.take() {
            Some(summed) => summed,
            None => self.summed_buffers(),
        };
        let parameters = self.flat.layout.parameters;
        let all = values.len();
        for (to, piece) in [
            (&self.flat.gradients, 0..parameters),
            (&self.flat.moments, parameters..all),
        ] {
            let from = Vector32 {
                len: piece.len(),
                buffer: values.handle(piece).into(),
            };
            self.copy(&from, to, from.len, Storage::F32);
        }
        let mut record = vec![0.0; record_len(1)];
        record[..2].copy_from_slice(&[terms.cross_entropy as f32, terms.kl as f32]);
        self.client()
            .write(&summed.record, Bytes::from_elems(record));
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
