//! The model on further devices and ranks, which share each batch with the main one.
//!
//! A batch is divided into shards, and each device of each rank computes a group of neighbours among them. What the shards contribute
//! is added in one tree, whoever computes them; the main device of every rank takes the optimizer's step with the sum and sends its
//! weights to the rank's other devices with the next batch. So all replicas are equal by construction.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use run_files::metrics::BatchLoss;
use run_files::settings::{DeviceChoice, Settings};
use vae_core::VaeConfig;

use crate::experiment::model::Model;
use crate::ranks::tree_sum::{Contribution, TreeSum};
use crate::ranks::{Ranks, RanksError, Requests};
use crate::step::adam::trainable;
use crate::step::batch_parts::{equal_parts, micro_batches};
use crate::step::gradient_sum::{no_gradients, put_vector};
use crate::step::kl_objective::KlWeights;
use crate::step::norm_meeting::{NormMeeting, Seat};
use crate::step::running_statistics::{statistics_vector, with_statistics_vector};
use crate::step::shards::{ShardSum, kl_sums_of_shards, sum_of_shards};

use super::all_reduce::AllReduce;
use super::pass::{Inputs, Pass, PassOptions, Phase, undivided_pass};

/// The model on further devices, each with a thread of its own: a CUDA stream belongs to a thread; and on further ranks.
pub(crate) struct Replicas {
    workers: Vec<Worker>,
    all_reduce: AllReduce,
    /// Parts of each batch with statistics of their own; 1 for as many as there are devices.
    shards: usize,
    ranks: Ranks,
    /// Whether each shard, which has a device of its own then, is normalised with the statistics of all.
    shares_norms: bool,
    /// What this rank asks all for with the next step, and what any of them asked for with the last one.
    requests: Requests,
}

struct Worker {
    device: Device,
    requests: Sender<Request>,
    /// The loss of a pass, once it is done.
    losses: Receiver<BatchLoss>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

struct Request {
    /// Of the main device, flattened, in the order of the module.
    weights: Vec<Tensor<1>>,
    /// Of the main device.
    running_statistics: Tensor<1>,
    inputs: Inputs,
    shards: usize,
    /// Images of the whole batch.
    batch: usize,
    options: PassOptions,
    kl: KlWeights,
    /// Whether every device of the rank has shards.
    is_complete: bool,
    /// Where the norms of all shards meet.
    seat: Option<Seat>,
}

struct Answer {
    /// What the shards add up to; see [`AllReduce`] for who needs it.
    vector: Tensor<1>,
    /// The weights that the pass was made with.
    #[cfg(test)]
    weights: Vec<Tensor<1>>,
}

/// The shards of a batch that one device computes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    images: Range<usize>,
    shards: usize,
}

impl Replicas {
    /// Starts a thread for each of `others`, which are autodiff devices as `main` is, and with it GPUs or not.
    pub(crate) fn start(
        config: &VaeConfig,
        main: &Device,
        others: &[Device],
        are_cuda: bool,
    ) -> Self {
        let all: Vec<Device> = std::iter::once(main)
            .chain(others)
            .map(|device| device.clone().inner())
            .collect();
        let all_reduce = AllReduce::new(all, are_cuda);
        let workers = others.iter().map(|device| {
            let (requests, received) = channel();
            let (done, losses) = channel();
            let (answer, answers) = channel();
            let (config, all_reduce) = (config.clone(), all_reduce.clone());
            let of_thread = device.clone();
            let thread = std::thread::spawn(move || {
                let answers = Answers { done, answer };
                work(&config, &of_thread, &all_reduce, &received, &answers);
            });
            Worker {
                device: device.clone(),
                requests,
                losses,
                answers,
                thread,
            }
        });
        Self {
            workers: workers.collect(),
            all_reduce,
            shards: 1,
            ranks: Ranks::alone(),
            shares_norms: false,
            requests: Requests::default(),
        }
    }

    /// No other device than `main`.
    pub(crate) fn none(main: &Device) -> Self {
        Self {
            workers: Vec::new(),
            all_reduce: AllReduce::new(vec![main.clone().inner()], false),
            shards: 1,
            ranks: Ranks::alone(),
            shares_norms: false,
            requests: Requests::default(),
        }
    }

    /// Devices that share the shards of each batch as the settings say, over these ranks.
    pub(crate) fn of_settings(
        settings: &Settings,
        config: &VaeConfig,
        main: &Device,
        others: &[Device],
        ranks: &Ranks,
    ) -> Self {
        // NCCL joins NVIDIA's.
        let are_cuda = matches!(settings.device.main(), DeviceChoice::Cuda(_));
        if !settings.sync_norm {
            let replicas = Self::start(config, main, others, are_cuda);
            return replicas.with_shards(settings.shards, ranks.clone());
        }
        // Shards wait for each other at every norm: each has a thread.
        let shards = settings.shards / ranks.size();
        let others = vec![main.clone(); shards.max(1) - 1];
        let replicas = Self::start(config, main, &others, are_cuda);
        Self {
            shares_norms: settings.shards > 1,
            ..replicas.with_shards(settings.shards, ranks.clone())
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
        self.all_reduce.main_device()
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

    /// Whether the main device computes whole batches.
    #[cfg_attr(not(feature = "cube"), allow(dead_code))] // A GPU then takes the step by itself.
    pub(crate) fn are_none(&self) -> bool {
        self.shards() == 1
    }

    /// Whether a batch of so many images is computed in parts, so that the model's own running statistics stay as they are.
    pub(crate) fn divides(&self, batch: usize, micro_batch_size: Option<usize>) -> bool {
        self.shards() > 1 || micro_batches(batch, micro_batch_size).len() > 1
    }

    /// What each device of this rank computes, the main one first. A batch with less than two images a shard has fewer shards, so that
    /// the last devices and ranks have none.
    fn groups(&self, batch: usize) -> Vec<Group> {
        let shards = equal_parts(batch, self.shards());
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
                let any = inputs.part(&(0..1));
                let pass = || sum_of_shards(model, (&any, 1), batch, options, &kl, ended);
                meeting.seat(0, 1).run(pass)?;
                meeting.error().map_or(Ok(()), Err)?;
            }
            return Ok(None);
        };
        let is_complete = groups.len() == self.devices();
        if !others.is_empty() {
            self.request(model, inputs, others, (options, &kl), meeting.as_ref());
        }
        let of_main = inputs.part(&own.images);
        let of_main = (&of_main, own.shards);
        let mut pass = || sum_of_shards(model, of_main, batch, options, &kl, ended);
        let ShardSum { loss, vector } = match &meeting {
            Some(meeting) => meeting.seat(0, own.images.len()).run(pass)?,
            None => pass()?,
        };
        // A collective operation waits for all devices: it must not begin where the pass of one has failed.
        let mut losses = TreeSum::new();
        losses.add(loss, both);
        for index in 0..others.len() {
            losses.add(
                self.receive(index, |worker| worker.losses.recv().ok()),
                both,
            );
        }
        let vector = self.all_reduce.join(vector, is_complete);
        let received: Vec<Tensor<1>> = (0..others.len())
            .map(|index| {
                self.receive(index, |worker| worker.answers.recv().ok())
                    .vector
            })
            .collect();
        if let Some(error) = meeting.and_then(|meeting| meeting.error()) {
            return Err(error.into());
        }
        Ok(Some(ShardSum {
            loss: losses.finish(both).expect("the main device's is one"),
            vector: self.all_reduce.finish(vector, received, is_complete),
        }))
    }

    /// Asks the other devices for their shards.
    fn request(
        &self,
        model: &Model,
        inputs: &Inputs,
        groups: &[Group],
        (options, kl): (PassOptions, &KlWeights),
        meeting: Option<&Arc<NormMeeting>>,
    ) {
        let (weights, running_statistics) = (weights(model), statistics_vector(model));
        for (index, (worker, group)) in self.workers.iter().zip(groups).enumerate() {
            let Inputs {
                images,
                noise,
                dropout,
            } = inputs.part(&group.images);
            let of_worker = Inputs {
                images: images.to_device(&worker.device),
                noise: noise.to_device(&worker.device),
                dropout: dropout.map(|masks| vae_core::DropoutMasks {
                    encoder: masks.encoder.to_device(&worker.device),
                    decoder: masks.decoder.to_device(&worker.device),
                }),
            };
            // A thread that is gone shows when its answer is missing.
            let _ = worker.requests.send(Request {
                weights: weights.clone(),
                running_statistics: running_statistics.clone(),
                inputs: of_worker,
                shards: group.shards,
                batch: inputs.len(),
                options,
                kl: kl.clone(),
                is_complete: 1 + groups.len() == self.devices(),
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
        let (sum, requests) = self.ranks.sum(own, length, self.requests)?;
        self.requests = requests;
        Ok(ShardSum {
            loss: sum.loss,
            vector: Tensor::from_data(TensorData::new(sum.values, [length]), self.main_device()),
        })
    }

    /// Each latent dimension's mean KL divergence over the whole batch, where free bits need it: one more pass through the encoder,
    /// in the parts that the batch will be computed in.
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
            let inputs = inputs.part(&(first.images.start..last.images.end));
            let shards = groups.iter().map(|group| group.shards).sum();
            Contribution {
                numbers: kl_sums_of_shards(model, (&inputs, shards), options),
                ..Contribution::default()
            }
        });
        let (sum, _) = self.ranks.sum(own, 0, Requests::default())?;
        let sums = sum.numbers.into_iter();
        Ok(Some(sums.map(|sum| sum / inputs.len() as f64).collect()))
    }

    /// What a worker sends; where its thread has panicked, this one does so with the same reason.
    fn receive<T>(&mut self, index: usize, what: impl Fn(&Worker) -> Option<T>) -> T {
        if let Some(received) = what(&self.workers[index]) {
            return received;
        }
        // The backend has panicked on that thread; its reason is this thread's too.
        match self.workers.swap_remove(index).thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a replica works as long as it gets requests"),
        }
    }
}

/// The loss of two neighbours in the tree.
fn both(mut left: BatchLoss, right: BatchLoss) -> BatchLoss {
    left.add_part(right);
    left
}

fn values(vector: Tensor<1>) -> Vec<f32> {
    let data = vector.into_data().convert_dtype(burn::tensor::DType::F32);
    data.try_to_vec::<f32>().expect("converted just now")
}

/// Where a replica's thread sends what it has computed.
struct Answers {
    done: Sender<BatchLoss>,
    answer: Sender<Answer>,
}

/// What a replica's thread does.
fn work(
    config: &VaeConfig,
    device: &Device,
    all_reduce: &AllReduce,
    requests: &Receiver<Request>,
    answers: &Answers,
) {
    let mut model = Model::new(config, device);
    for request in requests {
        let Request {
            weights,
            running_statistics,
            inputs,
            shards,
            batch,
            options,
            kl,
            is_complete,
            seat,
        } = request;
        model = with_weights(model, weights, device);
        let running_statistics = running_statistics.to_device(&device.clone().inner());
        model = with_statistics_vector(model, running_statistics);
        let mut nobody = |_| Ok::<(), std::convert::Infallible>(());
        let of_worker = (&inputs, shards);
        let mut pass = || sum_of_shards(&model, of_worker, batch, options, &kl, &mut nobody);
        let made = match seat {
            Some(seat) => seat.run(pass),
            None => pass(),
        };
        let ShardSum { loss, vector } = made.unwrap_or_else(|never| match never {});
        if answers.done.send(loss).is_err() {
            return;
        }
        let answer = Answer {
            vector: all_reduce.join(vector, is_complete),
            #[cfg(test)]
            weights: self::weights(&model),
        };
        if answers.answer.send(answer).is_err() {
            return;
        }
    }
}

fn parameter_count(model: &Model) -> usize {
    let weights = weights(model).into_iter();
    weights.map(|weight| weight.shape().num_elements()).sum()
}

/// The trainable parameters, flattened, in the order of the module.
fn weights<M: Module>(module: &M) -> Vec<Tensor<1>> {
    let mut reader = WeightReader(Vec::new());
    module.visit(&mut reader);
    reader.0
}

struct WeightReader(Vec<Tensor<1>>);

impl ModuleVisitor for WeightReader {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            self.0.push(value.inner().flatten(0, D - 1));
        }
    }
}

/// Gives a module the weights that [`weights`] read from another one of the same configuration.
fn with_weights<M: Module>(module: M, weights: Vec<Tensor<1>>, device: &Device) -> M {
    let device = device.clone().inner();
    module.map(&mut WeightWriter {
        weights: weights.into_iter(),
        device,
    })
}

struct WeightWriter {
    weights: std::vec::IntoIter<Tensor<1>>,
    device: Device,
}

impl ModuleMapper for WeightWriter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let old = param.val();
        if !old.is_require_grad() {
            return param;
        }
        let new = self
            .weights
            .next()
            .expect("both modules have the same parameters");
        let new = new.to_device(&self.device).reshape(old.shape());
        Param::initialized(param.id, trainable(new, &old))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::ranks::threads::on_ranks;
    use crate::step::pass::tests::{largest_difference, model_and_inputs_on, read, weighted_mean};
    use burn::tensor::DType;
    use run_files::settings::Precision;
    use vae_core::Sampler;

    fn start(images: u32, others: usize) -> (Model, Inputs, Replicas) {
        let device = Device::flex().autodiff();
        let (model, inputs, config) = model_and_inputs_on(images, Precision::F32, device.clone());
        let others = vec![device.clone(); others];
        let replicas = Replicas::start(&config, &device, &others, false);
        (model, inputs, replicas)
    }

    const OPTIONS: PassOptions = PassOptions {
        micro_batch_size: None,
        sampler: Sampler::Correct,
        gradient_checkpointing: false,
        kl: crate::step::kl_objective::KlObjective::LOSS,
    };

    fn passed(replicas: &mut Replicas, model: &Model, inputs: &Inputs) -> Pass {
        let mut nobody = |_| Ok::<(), RanksError>(());
        let made = replicas.pass(model, inputs, OPTIONS, &mut nobody);
        made.expect("nobody else is there")
    }

    #[test]
    fn gradients_are_the_weighted_mean_of_those_of_the_shards() {
        for (images, others, parts) in [
            (7, 1, vec![0..4, 4..7]),
            (8, 2, vec![0..3, 3..6, 6..8]),
            // Too few images for three devices.
            (5, 2, vec![0..3, 3..5]),
        ] {
            let (model, inputs, mut replicas) = start(images, others);
            let found = passed(&mut replicas, &model, &inputs);
            let (expected, loss) = weighted_mean(&model, &inputs, &parts);
            let gradients = read(&model, &found.gradients.expect("finite"));
            let difference = largest_difference(&expected, &gradients);
            assert!(difference < 1e-6, "{images} images: {difference:e}");
            assert_eq!(found.loss, loss);
        }
    }

    /// Everything that a pass gives, in bits.
    fn bits_of(model: &Model, pass: Pass) -> (Vec<u64>, Vec<u64>, Vec<u32>) {
        let gradients = read(model, &pass.gradients.expect("computed all the same"));
        let statistics = values(pass.running_statistics.expect("of a divided batch"));
        let loss = pass.loss;
        let numbers = [loss.cross_entropy, loss.kl, loss.l2];
        let means = pass.kl_means.unwrap_or_default();
        (
            numbers.into_iter().chain(means).map(f64::to_bits).collect(),
            gradients.into_iter().flatten().map(f64::to_bits).collect(),
            statistics.into_iter().map(f32::to_bits).collect(),
        )
    }

    /// Shards, devices, micro-batches and ranks are one thing: the same division gives the same bits.
    #[test]
    fn whoever_computes_the_shards_the_bits_are_the_same() {
        let device = Device::flex().autodiff();
        for (images, free_bits) in [(16, None), (11, None), (5, None), (16, Some(0.05))] {
            let options = PassOptions {
                kl: crate::step::kl_objective::KlObjective {
                    weight: 1.0,
                    free_bits,
                },
                ..OPTIONS
            };
            let computed = |ranks: &Ranks, devices: usize, options: PassOptions, shards: usize| {
                let (model, inputs, config) =
                    model_and_inputs_on(images, Precision::F32, device.clone());
                let others = vec![device.clone(); devices - 1];
                let replicas = Replicas::start(&config, &device, &others, false);
                let mut replicas = replicas.with_shards(shards, ranks.clone());
                let mut nobody = |_| Ok::<(), RanksError>(());
                let made = replicas.pass(&model, &inputs, options, &mut nobody);
                bits_of(&model, made.expect("all ranks are there"))
            };
            let expected = computed(&Ranks::alone(), 1, options, 4);
            for (ranks, devices) in [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)] {
                for found in on_ranks(ranks, |ranks| computed(ranks, devices, options, 4)) {
                    assert!(
                        found == expected,
                        "{images} images, {ranks} ranks, {devices} devices"
                    );
                }
            }
            // Devices without a number of shards are as many shards.
            assert!(
                computed(&Ranks::alone(), 4, options, 1) == expected,
                "{images} images"
            );
            if images == 16 {
                let in_four = PassOptions {
                    micro_batch_size: Some(4),
                    ..options
                };
                assert!(computed(&Ranks::alone(), 1, in_four, 1) == expected);
                let in_two_and_two = PassOptions {
                    micro_batch_size: Some(4),
                    ..options
                };
                assert!(computed(&Ranks::alone(), 2, in_two_and_two, 1) == expected);
            }
        }
    }

    /// Model and inputs of [`start`] in float64.
    fn start_wide(images: u32, others: usize) -> (Model, Inputs, Replicas) {
        struct Widen;
        impl ModuleMapper for Widen {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let old = param.val();
                let new = old.clone().inner().cast(DType::F64);
                let new = if old.is_require_grad() {
                    trainable(new, &old)
                } else {
                    Tensor::from_inner(new)
                };
                Param::initialized(param.id, new)
            }
        }
        let (model, inputs, replicas) = start(images, others);
        let inputs = Inputs {
            images: inputs.images.cast(DType::F64),
            noise: inputs.noise.cast(DType::F64),
            dropout: inputs.dropout.map(|masks| vae_core::DropoutMasks {
                encoder: masks.encoder.cast(DType::F64),
                decoder: masks.decoder.cast(DType::F64),
            }),
        };
        (model.map(&mut Widen), inputs, replicas)
    }

    /// Shards that share their norms are the undivided batch.
    #[test]
    fn shared_norms_give_the_pass_of_the_undivided_batch() {
        let l2 = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let distance = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            let differences: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            l2(&differences) / l2(expected)
        };
        let wide =
            |vector: Tensor<1>| -> Vec<f64> { values(vector).into_iter().map(f64::from).collect() };
        let (model, inputs, mut undivided) = start_wide(10, 0);
        let expected = passed(&mut undivided, &model, &inputs);
        let expected_gradients = read(&model, &expected.gradients.expect("finite")).concat();
        let expected_statistics = wide(statistics_vector(&model));
        let of_shards = |shares_norms: bool, gradient_checkpointing: bool| {
            let (model, inputs, replicas) = start_wide(10, 3);
            let mut replicas = Replicas {
                shares_norms,
                ..replicas.with_shards(4, Ranks::alone())
            };
            let options = PassOptions {
                gradient_checkpointing,
                ..OPTIONS
            };
            let mut nobody = |_| Ok::<(), RanksError>(());
            let found = replicas.pass(&model, &inputs, options, &mut nobody);
            let found = found.expect("nobody else is there");
            let gradients = read(&model, &found.gradients.expect("finite")).concat();
            let statistics = wide(found.running_statistics.expect("of a divided batch"));
            (found.loss, gradients, statistics)
        };
        let (loss, gradients, statistics) = of_shards(true, false);
        let found = [
            (loss.cross_entropy / expected.loss.cross_entropy - 1.0).abs(),
            (loss.kl / expected.loss.kl - 1.0).abs(),
            distance(&gradients, &expected_gradients),
            distance(&statistics, &expected_statistics),
        ];
        println!("losses, gradients, running statistics: {found:?}");
        assert!(found.iter().all(|found| *found < 1e-5), "{found:?}");
        let again = of_shards(true, true);
        assert!(
            again == (loss, gradients, statistics),
            "blocks computed again"
        );
        let (_, apart, _) = of_shards(false, false);
        let found = distance(&apart, &expected_gradients);
        assert!(found > 1e-2, "{found:e}: the division has to matter here");
    }

    /// Running statistics of a divided batch are the means over its parts, each weighted with its images.
    #[test]
    fn running_statistics_are_the_mean_over_the_shards() {
        let (model, inputs, mut replicas) = start(7, 1);
        let found = passed(&mut replicas, &model, &inputs);
        let found = values(found.running_statistics.expect("of two shards"));
        let before = values(statistics_vector(&model));
        let mut expected = vec![0.0_f64; before.len()];
        for part in [0..4, 4..7] {
            let (model, ..) = start(7, 0);
            let share = part.len() as f64 / 7.0;
            let inputs = inputs.part(&part);
            let _ = model.forward(
                inputs.images,
                inputs.noise,
                Sampler::Correct,
                inputs.dropout,
            );
            for (sum, value) in expected.iter_mut().zip(values(statistics_vector(&model))) {
                *sum += share * f64::from(value);
            }
        }
        assert_ne!(found, before);
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected.abs().max(1.0));
        }
    }

    #[test]
    fn a_shard_that_is_not_finite_is_seen_by_all() {
        let (model, mut inputs, mut replicas) = start(8, 1);
        // The last image is the other device's.
        let last = inputs.images.clone().narrow(0, 7, 1).mul_scalar(f32::NAN);
        inputs.images = Tensor::cat(vec![inputs.images.narrow(0, 0, 7), last], 0);
        let found = passed(&mut replicas, &model, &inputs);
        assert!(found.loss.cross_entropy.is_nan());
        let gradients = read(&model, &found.gradients.expect("computed all the same"));
        assert!(gradients.iter().flatten().any(|value| value.is_nan()));
    }

    #[test]
    fn a_device_that_fails_ends_the_run_with_its_reason() {
        let (model, mut inputs, mut replicas) = start(4, 1);
        // A latent of one dimension too few: a panic, as backends report what goes wrong.
        inputs.noise = inputs.noise.narrow(1, 0, 3);
        let request = Request {
            weights: weights(&model),
            running_statistics: statistics_vector(&model),
            inputs,
            shards: 1,
            batch: 4,
            options: OPTIONS,
            kl: KlWeights::One,
            is_complete: true,
            seat: None,
        };
        replicas.workers[0]
            .requests
            .send(request)
            .expect("it works");
        let receive = || replicas.receive(0, |worker| worker.losses.recv().ok());
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(receive));
        let reason = panic.expect_err("the worker has failed");
        let reason = reason.downcast_ref::<String>().expect("a text");
        assert!(reason.contains('3') && reason.contains('4'), "{reason}");
    }

    #[test]
    fn replicas_have_the_bits_of_the_main_device_after_several_steps() {
        let (mut model, inputs, mut replicas) = start(8, 2);
        let mut adam = crate::step::adam::Adam::new();
        let bits = |weights: &[Tensor<1>]| -> Vec<u32> {
            let values = weights.iter().map(|weight| {
                let data = weight.clone().into_data();
                data.try_to_vec::<f32>().expect("float32")
            });
            values.flatten().map(f32::to_bits).collect()
        };
        let initial = bits(&weights(&model));
        for _ in 0..4 {
            let gradients = passed(&mut replicas, &model, &inputs).gradients;
            model = adam.step(model, gradients.expect("finite"), 0.01);
        }
        // Every replica says which weights its pass is made with.
        let expected = weights(&model);
        assert_ne!(bits(&expected), initial);
        let groups = replicas.groups(8);
        for (worker, group) in replicas.workers.iter().zip(&groups[1..]) {
            let request = Request {
                weights: expected.clone(),
                running_statistics: statistics_vector(&model),
                inputs: inputs.part(&group.images),
                shards: group.shards,
                batch: 8,
                options: OPTIONS,
                kl: KlWeights::One,
                is_complete: true,
                seat: None,
            };
            worker.requests.send(request).expect("it works");
        }
        for worker in &replicas.workers {
            let answer = worker.answers.recv().expect("it works");
            assert!(bits(&answer.weights) == bits(&expected));
        }
    }
}
