//! The model on other devices and ranks, which share each batch with the main one.
//!
//! A batch is divided into shards, and each device of each rank computes a group of neighbours among them. What the shards contribute
//! is added in one tree, whoever computes them; the main device of every rank takes the optimizer's step with the sum and sends its
//! weights to the rank's other devices with the next batch. So all replicas are equal by construction.

mod norm_meeting;
#[cfg(feature = "cube")]
mod on_device;
mod weights;
mod worker;

use std::ops::Range;
use std::sync::Arc;

use burn::prelude::*;
use run_files::settings::Settings;

use crate::experiment::model::{Model, ModelConfig};
use crate::ranks::batch_division::{equal_shards, micro_batches};
use crate::ranks::tree_sum::{Contribution, TreeSum};
use crate::ranks::{Ranks, RanksError, Requests};
use crate::step::gradient_sum::{no_gradients, put_vector};
use crate::step::kl_objective::KlWeights;
use crate::step::passes::shards::{ShardSum, kl_sums_of_shards, sum_of_shards};
use crate::step::running_statistics::statistics_vector;

use self::norm_meeting::NormMeeting;
use self::weights::{parameter_count, weights};
use self::worker::{Answer, Request, Worker};
use super::pass::{Inputs, Pass, PassOptions, Phase, undivided_pass};

/// The model on other devices, each with a thread of its own: a CUDA stream belongs to a thread; and on other ranks.
pub(crate) struct Replicas {
    workers: Vec<Worker>,
    /// Without autodiff.
    main_device: Device,
    /// Shards of each batch with statistics of their own; 1 for as many as there are devices.
    shards: usize,
    ranks: Ranks,
    /// Whether each shard, which has a device of its own then, is normalised with the statistics of all.
    shares_norms: bool,
    /// What this rank asks all for with the next step, and what any of them asked for with the last one.
    requests: Requests,
}

/// The shards of a batch that one device computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) images: Range<usize>,
    pub(crate) shards: usize,
}

impl Replicas {
    /// On `main` and `others`, which are autodiff devices.
    pub(crate) fn of(config: &ModelConfig, main: &Device, others: &[Device]) -> Self {
        let workers = others.iter().map(|device| Worker::new(config, device));
        Self {
            workers: workers.collect(),
            ..Self::none(main)
        }
    }

    /// No other device than `main`.
    pub(crate) fn none(main: &Device) -> Self {
        Self {
            workers: Vec::new(),
            main_device: main.clone().inner(),
            shards: 1,
            ranks: Ranks::alone(),
            shares_norms: false,
            requests: Requests::default(),
        }
    }

    /// Devices that share the shards of each batch as the settings say, over these ranks.
    pub(crate) fn of_settings(
        settings: &Settings,
        config: &ModelConfig,
        main: &Device,
        others: &[Device],
        ranks: &Ranks,
    ) -> Self {
        if !settings.sync_norm {
            let replicas = Self::of(config, main, others);
            return replicas.with_shards(settings.shards, ranks.clone());
        }
        // Shards wait for each other at every norm: each has a thread.
        let shards = settings.shards / ranks.size();
        let others = vec![main.clone(); shards.max(1) - 1];
        Self {
            shares_norms: settings.shards > 1,
            ..Self::of(config, main, &others).with_shards(settings.shards, ranks.clone())
        }
    }

    /// Divides batches into so many shards, and over these ranks, whose devices together divide that number.
    pub(crate) fn with_shards(self, shards: usize, ranks: Ranks) -> Self {
        Self {
            shards,
            ranks,
            ..self
        }
    }

    /// The main device, without autodiff.
    pub(crate) fn main_device(&self) -> &Device {
        &self.main_device
    }

    /// Sets what this rank asks all for with the next step.
    pub(crate) fn ask(&mut self, requests: Requests) {
        self.requests = requests;
    }

    /// What any rank asked for with the last step.
    pub(crate) fn requests(&self) -> Requests {
        self.requests
    }

    fn devices(&self) -> usize {
        1 + self.workers.len()
    }

    /// Shards of a batch that has images enough for them.
    fn shards(&self) -> usize {
        match self.shards {
            1 => self.devices(),
            shards => shards,
        }
    }

    /// The sum over all ranks of contributions that lie on the host, and what any of them asks for.
    fn sum_on_host(
        &mut self,
        own: Option<Contribution>,
        length: usize,
    ) -> Result<Contribution, RanksError> {
        let (sum, requests) = self.ranks.sum(own, length, self.requests)?;
        self.requests = requests;
        Ok(sum)
    }

    /// Whether a batch of so many images is computed in shards or micro-batches, so that the model's own running statistics stay as they are.
    pub(crate) fn divides(&self, batch: usize, micro_batch_size: Option<usize>) -> bool {
        self.shards() > 1 || micro_batches(batch, micro_batch_size).len() > 1
    }

    /// What each device of this rank computes, the main one first. A batch with less than two images a shard has fewer shards, so that
    /// the last devices and ranks have none.
    pub(crate) fn groups(&self, batch: usize) -> Vec<Group> {
        let shards = equal_shards(batch, self.shards());
        let devices = self.devices();
        let of_device = self.shards() / (self.ranks.size() * devices);
        let groups = (0..devices).filter_map(|device| {
            let first = (self.ranks.rank() * devices + device) * of_device;
            let end = (first + of_device).min(shards.len());
            let own = shards.get(first..end)?;
            let (first, last) = (own.first()?, own.last()?);
            Some(Group {
                images: first.start..last.end,
                shards: own.len(),
            })
        });
        groups.collect()
    }

    /// A pass over the whole batch, on all devices of all ranks. `ended` is called at the end of each phase on the main device.
    ///
    /// # Errors
    /// What `ended` gives, or where a rank is lost.
    pub(crate) fn pass<E: From<RanksError>>(
        &mut self,
        model: &Model,
        inputs: &Inputs,
        options: PassOptions,
        ended: &mut impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<Pass, E> {
        let batch = inputs.len();
        if !self.divides(batch, options.micro_batch_size) {
            return undivided_pass(model, inputs, options, ended);
        }
        let kl_means = self.kl_means(model, inputs, options)?;
        let own = self.own_sum(model, inputs, (options, kl_means.as_deref()), ended)?;
        let sum = self.sum_over_ranks(model, own)?;
        let parameters = parameter_count(model);
        let statistics = sum.vector.shape().num_elements() - parameters;
        let mut gradients = no_gradients(self.main_device());
        put_vector(
            model,
            &mut gradients,
            sum.vector.clone().narrow(0, 0, parameters),
        );
        Ok(Pass {
            loss: sum.loss,
            gradients: Some(gradients),
            failed: None,
            kl_means,
            running_statistics: Some(sum.vector.narrow(0, parameters, statistics)),
        })
    }

    /// What the shards of this rank add up to; none where the batch has none for it.
    fn own_sum<E: From<RanksError>>(
        &mut self,
        model: &Model,
        inputs: &Inputs,
        (options, kl_means): (PassOptions, Option<&[f64]>),
        ended: &mut impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<Option<ShardSum>, E> {
        let batch = inputs.len();
        let kl = options.kl.weights(kl_means);
        let groups = self.groups(batch);
        let meeting = self
            .shares_norms
            .then(|| NormMeeting::new(batch, groups.len(), &self.ranks));
        let [own, others @ ..] = groups.as_slice() else {
            if let Some(meeting) = meeting {
                // The others wait for this rank at every norm: it goes through a pass of which nothing counts.
                let any = inputs.slice(&(0..1));
                let pass = || sum_of_shards(model, (&any, 1), batch, options, &kl, ended);
                meeting.seat(0, 1).run(pass)?;
                meeting.error().map_or(Ok(()), Err)?;
            }
            return Ok(None);
        };
        if !others.is_empty() {
            self.request(model, inputs, others, (options, &kl), meeting.as_ref());
        }
        let of_main = inputs.slice(&own.images);
        let of_main = (&of_main, own.shards);
        let mut pass = || sum_of_shards(model, of_main, batch, options, &kl, ended);
        let own = match &meeting {
            Some(meeting) => meeting.seat(0, own.images.len()).run(pass)?,
            None => pass()?,
        };
        let mut sum = TreeSum::new();
        sum.add(own, ShardSum::and);
        for worker in &mut self.workers[..others.len()] {
            let Answer { loss, vector, .. } = worker.answer();
            let vector = vector.to_device(&self.main_device);
            sum.add(ShardSum { loss, vector }, ShardSum::and);
        }
        if let Some(error) = meeting.and_then(|meeting| meeting.error()) {
            return Err(error.into());
        }
        let sum = sum.finish(ShardSum::and);
        Ok(Some(sum.expect("the main device's is one")))
    }

    /// Asks the other devices for their shards.
    fn request(
        &mut self,
        model: &Model,
        inputs: &Inputs,
        groups: &[Group],
        (options, kl): (PassOptions, &KlWeights),
        meeting: Option<&Arc<NormMeeting>>,
    ) {
        let (weights, running_statistics) = (weights(model), statistics_vector(model));
        for (index, (worker, group)) in self.workers.iter_mut().zip(groups).enumerate() {
            let of_worker = inputs.slice(&group.images).on(worker.device());
            worker.ask(Request {
                weights: weights.clone(),
                running_statistics: running_statistics.clone(),
                inputs: of_worker,
                shards: group.shards,
                batch: inputs.len(),
                options,
                kl: kl.clone(),
                seat: meeting.map(|meeting| meeting.seat(1 + index, group.images.len())),
            });
        }
    }

    /// The sum over all ranks: through the host, as one vector.
    fn sum_over_ranks(
        &mut self,
        model: &Model,
        own: Option<ShardSum>,
    ) -> Result<ShardSum, RanksError> {
        if !self.ranks.are_several() {
            return Ok(own.expect("a rank on its own has all shards"));
        }
        let length = match &own {
            Some(own) => own.vector.shape().num_elements(),
            None => parameter_count(model) + statistics_vector(model).shape().num_elements(),
        };
        let own = own.map(|own| Contribution {
            loss: own.loss,
            numbers: Vec::new(),
            values: values(own.vector),
        });
        let sum = self.sum_on_host(own, length)?;
        Ok(ShardSum {
            loss: sum.loss,
            vector: Tensor::from_data(TensorData::new(sum.values, [length]), self.main_device()),
        })
    }

    /// Each latent dimension's mean KL divergence over the whole batch, where free bits need it: one more pass through the encoder,
    /// in the passes that the batch will be computed in.
    fn kl_means(
        &self,
        model: &Model,
        inputs: &Inputs,
        options: PassOptions,
    ) -> Result<Option<Vec<f64>>, RanksError> {
        if options.kl.free_bits.is_none() {
            return Ok(None);
        }
        let groups = self.groups(inputs.len());
        let own = groups.first().zip(groups.last()).map(|(first, last)| {
            let inputs = inputs.slice(&(first.images.start..last.images.end));
            let shards = groups.iter().map(|group| group.shards).sum();
            kl_sums_of_shards(model, (&inputs, shards), options)
        });
        self.kl_means_over_ranks(own, inputs.len()).map(Some)
    }

    /// Each latent dimension's mean KL divergence over a batch of so many images, from the sums over those of each rank.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub(crate) fn kl_means_over_ranks(
        &self,
        own: Option<Vec<f64>>,
        images: usize,
    ) -> Result<Vec<f64>, RanksError> {
        let own = own.map(|numbers| Contribution {
            numbers,
            ..Contribution::default()
        });
        let (sum, _) = self.ranks.sum(own, 0, Requests::default())?;
        let sums = sum.numbers.into_iter();
        Ok(sums.map(|sum| sum / images as f64).collect())
    }
}

fn values(vector: Tensor<1>) -> Vec<f32> {
    let data = vector.into_data().convert_dtype(burn::tensor::DType::F32);
    data.try_to_vec::<f32>().expect("converted just now")
}

#[cfg(all(test, feature = "flex"))]
mod tests;
