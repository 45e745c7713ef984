//! Steps of a batch in shards or micro-batches, whose contributions are added on the GPU. Those of the other GPUs of the process come through the host,
//! those of other ranks over a [`Link`].

use std::convert::Infallible;
use std::sync::Arc;

use run_files::metrics::BatchLoss;
use run_files::step_guard::StepGuard;
use vae_device_step::{BatchTerms, DeviceVector, StepRates};
use vae_measures::free_bits_gradient;

use super::checked::checked;
use super::wire::Link;
use super::worker::{Answer, HostInputs};
use super::{OnDevice, Told, on_device};
use crate::ranks::RanksError;
use crate::ranks::piecewise_sum::{Position, sum_pieces};
use crate::ranks::tree_sum::TreeSum;
use crate::step::kl_objective::KlObjective;
use crate::step::passes::pass::Inputs;
use crate::step::passes::replicas::Replicas;
use crate::step::passes::shards::{added, sum_in_tree};
use crate::step::request::{StepReport, StepRequest};

/// What a rank's GPUs compute of a batch.
struct Shares {
    /// The main one's.
    inputs: Inputs,
    shards: usize,
    of_others: Vec<Share>,
}

/// What another GPU computes.
struct Share {
    inputs: Arc<HostInputs>,
    shards: usize,
}

impl OnDevice {
    /// Takes a step of a batch that is divided, in the tree of [`sum_of_shards`](crate::step::passes::shards::sum_of_shards), and waits for it.
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
            ..
        } = request;
        let images = inputs.len();
        let rates = self.rates(learning_rate, [kl.weight; 2], guard);
        let shares = self.divided(&inputs, replicas);
        let kl_means = self.kl_means(shares.as_ref(), (kl, images), replicas)?;
        let own = shares.map(|shares| self.sum_over_gpus(shares, images, rates));
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
        checked(self.step.observe(&outcome));
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

    /// What each of this rank's GPUs computes of a batch, all with the same weights from here on; none where the batch has nothing for them.
    fn divided(&mut self, inputs: &Inputs, replicas: &Replicas) -> Option<Shares> {
        let groups = replicas.groups(inputs.len());
        let [own, others @ ..] = groups.as_slice() else {
            return None;
        };
        let gpus = self.workers.iter().zip(others);
        if !others.is_empty() {
            let weights: Arc<[f32]> = checked(self.step.parameters()).into();
            for (gpu, _) in gpus.clone() {
                let weights = weights.clone();
                gpu.ask(move |gpu, _| gpu.step.set_parameters(&weights));
            }
        }
        let of_others = gpus.map(|(_, group)| Share {
            inputs: Arc::new(HostInputs::read(inputs.slice(&group.images))),
            shards: group.shards,
        });
        Some(Shares {
            of_others: of_others.collect(),
            inputs: inputs.slice(&own.images),
            shards: own.shards,
        })
    }

    /// Each latent dimension's mean divergence over a batch of so many images, where the objective has free bits; the passes that follow count those
    /// dimensions that are not free.
    fn kl_means(
        &mut self,
        shares: Option<&Shares>,
        (kl, images): (KlObjective, usize),
        replicas: &Replicas,
    ) -> Result<Option<Vec<f64>>, RanksError> {
        let Some(free) = kl.free_bits else {
            return Ok(None);
        };
        let sums = shares.map(|shares| {
            let asked = self.ask_others(shares, |gpu, inputs, shards| gpu.kl_sums(&inputs, shards));
            let own = self.kl_sums(&shares.inputs, shares.shards);
            self.added_over_gpus(own, asked, |_, sums| sums, added)
        });
        let means = replicas.kl_means_over_ranks(sums, images)?;
        let slopes = free_bits_gradient(&means, free).into_iter();
        let slopes: Arc<[f32]> = slopes.map(|slope| slope as f32).collect();
        self.step.set_kl_slopes(&slopes);
        for gpu in &self.workers {
            let slopes = slopes.clone();
            gpu.ask(move |gpu, _| gpu.step.set_kl_slopes(&slopes));
        }
        Ok(Some(means))
    }

    /// Each latent dimension's divergence, summed over these shards.
    fn kl_sums(&mut self, inputs: &Inputs, shards: usize) -> Vec<f64> {
        let sums_of = |inputs, _| {
            let sums = checked(self.step.kl_sums(on_device(inputs)));
            Ok::<Vec<f64>, Infallible>(sums.into_iter().map(f64::from).collect())
        };
        let micro_batch_size = self.options.micro_batch_size;
        let Ok(sums) = sum_in_tree((inputs, shards), micro_batch_size, sums_of, added);
        sums
    }

    /// What this rank's GPUs contribute to a step over `batch` images, on the main one.
    fn sum_over_gpus(
        &mut self,
        shares: Shares,
        batch: usize,
        rates: StepRates,
    ) -> (BatchLoss, DeviceVector) {
        let asked = self.ask_others(&shares, move |gpu, inputs, shards| {
            let (loss, values) = gpu.sum_of_shards(&inputs, shards, batch, rates);
            (loss, checked(values.read(0..values.len())))
        });
        let own = self.sum_of_shards(&shares.inputs, shares.shards, batch, rates);
        let written = |own: &Self, (loss, values): (BatchLoss, Vec<f32>)| {
            let vector = own.step.new_vector();
            vector.write(0, &values);
            (loss, vector)
        };
        self.added_over_gpus(own, asked, written, and)
    }

    /// Has every other GPU compute something of its share.
    fn ask_others<T: Send + 'static>(
        &self,
        shares: &Shares,
        what: impl FnOnce(&mut Self, Inputs, usize) -> T + Clone + Send + 'static,
    ) -> Vec<Answer<T>> {
        let gpus = self.workers.iter().zip(&shares.of_others);
        let asked = gpus.map(|(gpu, Share { inputs, shards })| {
            let (inputs, shards, what) = (inputs.clone(), *shards, what.clone());
            gpu.ask(move |gpu, device| what(gpu, inputs.write(device), shards))
        });
        asked.collect()
    }

    /// What this GPU and the others have computed, added in the order of the GPUs.
    fn added_over_gpus<T, A>(
        &mut self,
        own: T,
        asked: Vec<Answer<A>>,
        here: impl Fn(&Self, A) -> T,
        and: impl Fn(T, T) -> T,
    ) -> T {
        let mut sum = TreeSum::new();
        sum.add(own, &and);
        for (index, answer) in asked.into_iter().enumerate() {
            let answer = self.workers[index].wait(answer);
            sum.add(here(self, answer), &and);
        }
        sum.finish(and).expect("this GPU's own is one")
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
        let Ok(sum) = sum_in_tree((inputs, shards), micro_batch_size, pass, and);
        sum
    }
}

/// The sum of two neighbours in the tree.
fn and(
    (mut loss, values): (BatchLoss, DeviceVector),
    right: (BatchLoss, DeviceVector),
) -> (BatchLoss, DeviceVector) {
    loss.add(right.0);
    (loss, values.and(right.1))
}
