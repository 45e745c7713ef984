//! Steps of a batch in shards or micro-batches, whose contributions are added on the host, between ranks too.

use run_files::metrics::BatchLoss;
use run_files::step_guard::StepGuard;
use vae_device_step::{BatchTerms, StepRates};

use super::{OnDevice, Told, checked, on_device};
use crate::ranks::RanksError;
use crate::ranks::tree_sum::{Contribution, TreeSum};
use crate::step::batch_parts::{equal_parts, micro_batches};
use crate::step::pass::Inputs;
use crate::step::replicas::Replicas;
use crate::step::request::{StepReport, StepRequest};

impl OnDevice {
    /// Takes a step of a batch that is divided, in the tree of [`sum_of_shards`](crate::step::shards::sum_of_shards), and waits for it.
    ///
    /// # Errors
    /// Where another rank is lost; the step has changed nothing then.
    ///
    /// # Panics
    /// If the device fails, as Burn's own operations do.
    pub(crate) fn divided_step(
        &mut self,
        request: StepRequest,
        replicas: &mut Replicas,
        guard: &mut StepGuard,
    ) -> Result<StepReport, RanksError> {
        let StepRequest {
            step,
            inputs,
            learning_rate,
            kl,
        } = request;
        let images = inputs.len();
        let rates = self.rates(learning_rate, kl, guard);
        let own = replicas.own_images(images).map(|(range, shards)| {
            let inputs = inputs.slice(&range);
            self.sum_of_shards(&inputs, shards, images, rates)
        });
        let sum = replicas.sum_on_host(own, self.step.pass_len())?;
        let terms = BatchTerms {
            cross_entropy: sum.loss.cross_entropy,
            kl: sum.loss.kl,
        };
        let pending = checked(self.step.update(&sum.values, terms, rates));
        self.goes_ahead();
        let outcome = checked(pending.wait());
        self.step.observe(&outcome);
        let loss = BatchLoss {
            l2: outcome.l2,
            ..sum.loss
        };
        let told = Told {
            step,
            images,
            learning_rate,
            kl,
        };
        Ok(self.told_report(told, loss, outcome, guard))
    }

    /// What these shards contribute to a step over `batch` images.
    fn sum_of_shards(
        &mut self,
        inputs: &Inputs,
        shards: usize,
        batch: usize,
        rates: StepRates,
    ) -> Contribution {
        let mut sum = TreeSum::new();
        for shard in equal_parts(inputs.len(), shards) {
            let inputs = inputs.slice(&shard);
            let mut of_shard = TreeSum::new();
            for micro_batch in micro_batches(shard.len(), self.options.micro_batch_size) {
                let share = micro_batch.len() as f32 / batch as f32;
                let inputs = on_device(inputs.slice(&micro_batch));
                let mut pass = checked(self.step.pass(inputs, rates));
                pass.values.iter_mut().for_each(|value| *value *= share);
                let contribution = Contribution {
                    loss: BatchLoss {
                        cross_entropy: pass.terms.cross_entropy,
                        kl: pass.terms.kl,
                        l2: 0.0,
                    },
                    numbers: Vec::new(),
                    values: pass.values,
                };
                of_shard.add(contribution, Contribution::and);
            }
            let of_shard = of_shard.finish(Contribution::and);
            sum.add(of_shard.expect("a shard has images"), Contribution::and);
        }
        let sum = sum.finish(Contribution::and);
        sum.expect("there is a shard")
    }
}
