//! Steps of a batch in shards or micro-batches, whose contributions are added on the GPU; those of other ranks come over a [`Link`].

use std::convert::Infallible;

use run_files::metrics::BatchLoss;
use run_files::step_guard::StepGuard;
use vae_device_step::{BatchTerms, DeviceVector, StepRates};
use vae_measures::free_bits_gradient;

use super::wire::Link;
use super::{OnDevice, Told, checked, on_device};
use crate::ranks::RanksError;
use crate::ranks::piecewise_sum::{Position, sum_pieces};
use crate::step::kl_objective::KlObjective;
use crate::step::pass::Inputs;
use crate::step::replicas::Replicas;
use crate::step::request::{StepReport, StepRequest};
use crate::step::shards::{added, sum_in_tree};

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
        let own = replicas
            .own_images(images)
            .map(|(range, shards)| (inputs.slice(&range), shards));
        let kl_means = self.kl_means(own.as_ref(), (kl, images), replicas)?;
        let own = own.map(|(inputs, shards)| self.sum_of_shards(&inputs, shards, images, rates));
        let (own_loss, own_values) = own.unzip();
        let loss = replicas.sum_losses(own_loss)?;
        let terms = BatchTerms {
            cross_entropy: loss.cross_entropy,
            kl: loss.kl,
        };
        let sum = own_values.unwrap_or_else(|| self.step.new_vector());
        self.sum_over_ranks(&sum, replicas, images)?;
        let outcome = checked(checked(self.step.update(&sum, terms, rates)).wait());
        self.goes_ahead();
        self.step.observe(&outcome);
        let loss = BatchLoss {
            l2: outcome.l2,
            ..loss
        };
        let told = Told {
            step,
            images,
            learning_rate,
            kl,
        };
        let kl = kl_means.map(|means| kl.value(f64::NAN, Some(&means)));
        Ok(self.told_report(told, (loss, kl), outcome, guard))
    }

    /// Makes `sum`, what this rank contributes to a step over so many images, the sum over all ranks.
    fn sum_over_ranks(
        &mut self,
        sum: &DeviceVector,
        replicas: &Replicas,
        images: usize,
    ) -> Result<(), RanksError> {
        let ranks = replicas.ranks();
        if !ranks.are_several() {
            return Ok(());
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::between(ranks, &self.step)?,
        };
        let position = Position {
            rank: ranks.rank(),
            size: ranks.size(),
            contributing: replicas.contributing(images),
        };
        let received = self.step.new_vector();
        link.watched(ranks, || {
            sum_pieces(position, sum, &received, &mut *link.wire(ranks))?;
            // Waits: the update must not begin where a rank is lost meanwhile.
            checked(sum.read(0..DeviceVector::ALIGNMENT));
            Ok(())
        })?;
        self.link = Some(link);
        Ok(())
    }

    /// Each latent dimension's mean divergence over a batch of so many images, where the objective has free bits; the passes that follow count those
    /// dimensions that are not free.
    fn kl_means(
        &mut self,
        own: Option<&(Inputs, usize)>,
        (kl, images): (KlObjective, usize),
        replicas: &Replicas,
    ) -> Result<Option<Vec<f64>>, RanksError> {
        let Some(free) = kl.free_bits else {
            return Ok(None);
        };
        let micro_batch_size = self.options.micro_batch_size;
        let own = own.map(|(inputs, shards)| {
            let sums_of = |inputs, _| {
                let sums = checked(self.step.kl_sums(on_device(inputs)));
                Ok::<Vec<f64>, Infallible>(sums.into_iter().map(f64::from).collect())
            };
            let Ok(sums) = sum_in_tree((inputs, *shards), micro_batch_size, sums_of, added);
            sums
        });
        let means = replicas.kl_means_over_ranks(own, images)?;
        let slopes = free_bits_gradient(&means, free).into_iter();
        let slopes: Vec<f32> = slopes.map(|slope| slope as f32).collect();
        self.step.set_kl_slopes(&slopes);
        Ok(Some(means))
    }

    /// What these shards contribute to a step over `batch` images: the sums of their losses, and of their gradients and statistics.
    fn sum_of_shards(
        &mut self,
        inputs: &Inputs,
        shards: usize,
        batch: usize,
        rates: StepRates,
    ) -> (BatchLoss, DeviceVector) {
        let micro_batch_size = self.options.micro_batch_size;
        let pass = |inputs: Inputs, images| {
            let share = images as f32 / batch as f32;
            let pass = checked(self.step.pass(on_device(inputs), share, rates));
            let loss = BatchLoss {
                cross_entropy: pass.terms.cross_entropy,
                kl: pass.terms.kl,
                l2: 0.0,
            };
            Ok::<_, Infallible>((loss, pass.values))
        };
        let and = |(mut loss, values): (BatchLoss, DeviceVector), right: (_, _)| {
            loss.add_part(right.0);
            (loss, values.and(right.1))
        };
        let Ok(sum) = sum_in_tree((inputs, shards), micro_batch_size, pass, and);
        sum
    }
}
