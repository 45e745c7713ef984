//! The model on further devices of the machine, which share each batch with the main one.
//!
//! A batch is divided into equal parts, one a device. Every device computes the gradients of its part, each weighted with the
//! part's share of the images; their sum, the gradient of the whole batch's mean loss, goes to the main device, which takes
//! the optimizer's step and sends its weights out with the next batch. So replicas are equal by construction, and moments
//! and running statistics exist once: those of the main device, which has seen its own parts only.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;
use vae_core::VaeConfig;

use crate::experiment::model::Model;
use crate::step::adam::trainable;
use crate::step::batch_parts::{equal_parts, micro_batches};
use crate::step::block_checkpointing::kl_means;
use crate::step::gradient_sum::{put_vector, take_vector};

use run_files::metrics::BatchLoss;

use super::all_reduce::AllReduce;
use super::pass::{AtNonFinite, Inputs, Pass, PassOptions, Phase, pass, unwatched_pass};

/// The model on further devices, each with a thread of its own: a CUDA stream belongs to a thread.
pub(crate) struct Replicas {
    workers: Vec<Worker>,
    all_reduce: AllReduce,
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
    inputs: Inputs,
    /// Images of the whole batch.
    batch: usize,
    options: PassOptions,
    kl_means: Option<Vec<f64>>,
}

struct Answer {
    /// All gradients of the part, weighted; see [`AllReduce`] for who needs them.
    gradients: Tensor<1>,
    /// The weights that the pass was made with.
    #[cfg(test)]
    weights: Vec<Tensor<1>>,
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
        }
    }

    /// No other device than `main`.
    pub(crate) fn none(main: &Device) -> Self {
        Self {
            workers: Vec::new(),
            all_reduce: AllReduce::new(vec![main.clone().inner()], false),
        }
    }

    /// The main device, without autodiff.
    pub(crate) fn main_device(&self) -> &Device {
        self.all_reduce.main_device()
    }

    /// The images of a batch that each device takes, the main one first.
    pub(crate) fn parts(&self, batch: usize) -> Vec<Range<usize>> {
        equal_parts(batch, 1 + self.workers.len())
    }

    /// A pass over the whole batch, on all devices; on the main one alone where there is no other. `ended` is called at the end
    /// of each phase on the main device.
    ///
    /// # Errors
    /// What `ended` gives.
    pub(crate) fn pass<E>(
        &mut self,
        model: &Model,
        inputs: &Inputs,
        options: PassOptions,
        ended: &mut impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<Pass, E> {
        let batch = inputs.len();
        let parts = self.parts(batch);
        let [own, others @ ..] = parts.as_slice() else {
            unreachable!("a batch has at least one part")
        };
        let kl_means = self.kl_means(model, inputs, options);
        if others.is_empty() {
            let stop = AtNonFinite::Stop;
            let kl_means = kl_means.as_deref();
            return pass(model, inputs, batch, options, kl_means, stop, ended);
        }
        let weights = weights(model);
        for (worker, part) in self.workers.iter().zip(others) {
            let Inputs {
                images,
                noise,
                dropout,
            } = inputs.part(part);
            let inputs = Inputs {
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
                inputs,
                batch,
                options,
                kl_means: kl_means.clone(),
            });
        }
        let go_on = AtNonFinite::GoOn;
        let own = inputs.part(own);
        let known = kl_means.as_deref();
        let mut whole = pass(model, &own, batch, options, known, go_on, ended)?;
        let mut gradients = whole
            .gradients
            .take()
            .expect("a pass that goes on has gradients");
        let is_complete = others.len() == self.workers.len();
        let vector = take_vector(model, &mut gradients);
        // A collective operation waits for all devices: it must not begin where the pass of one has failed.
        for index in 0..others.len() {
            let loss = self.receive(index, |worker| worker.losses.recv().ok());
            whole.loss.add_part(loss);
        }
        let vector = self.all_reduce.join(vector, is_complete);
        let received = (0..others.len())
            .map(|index| {
                let answer = self.receive(index, |worker| worker.answers.recv().ok());
                answer.gradients
            })
            .collect();
        let vector = self.all_reduce.finish(vector, received, is_complete);
        put_vector(model, &mut gradients, vector);
        whole.gradients = Some(gradients);
        Ok(whole)
    }

    /// Each latent dimension's mean KL divergence over the whole batch, where free bits need it and the batch is divided: one
    /// more pass through the encoder, in the parts that the batch will be computed in.
    fn kl_means(&self, model: &Model, inputs: &Inputs, options: PassOptions) -> Option<Vec<f64>> {
        options.kl.free_bits?;
        let parts: Vec<Range<usize>> = self
            .parts(inputs.len())
            .into_iter()
            .flat_map(|part| {
                let micro = micro_batches(part.len(), options.micro_batch_size);
                micro
                    .into_iter()
                    .map(move |of_part| part.start + of_part.start..part.start + of_part.end)
            })
            .collect();
        if parts.len() == 1 {
            return None;
        }
        let parts = parts
            .iter()
            .map(|part| inputs.part(part).forward(options.sampler));
        Some(kl_means(model, parts))
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
            inputs,
            batch,
            options,
            kl_means,
        } = request;
        let is_complete = equal_parts(batch, all_reduce.count()).len() == all_reduce.count();
        model = with_weights(model, weights, device);
        let go_on = AtNonFinite::GoOn;
        let Pass {
            loss, gradients, ..
        } = unwatched_pass(&model, &inputs, batch, options, kl_means.as_deref(), go_on);
        // Nobody reads this replica's running statistics; left pending they would pile up.
        drop(model.valid());
        let mut gradients = gradients.expect("a pass that goes on has gradients");
        let vector = take_vector(&model, &mut gradients);
        if answers.done.send(loss).is_err() {
            return;
        }
        let answer = Answer {
            gradients: all_reduce.join(vector, is_complete),
            #[cfg(test)]
            weights: self::weights(&model),
        };
        if answers.answer.send(answer).is_err() {
            return;
        }
    }
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
    use crate::step::pass::tests::{largest_difference, model_and_inputs_on, read, weighted_mean};
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
        let mut nobody = |_| Ok::<(), std::convert::Infallible>(());
        let made = replicas.pass(model, inputs, OPTIONS, &mut nobody);
        made.unwrap_or_else(|never| match never {})
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

    #[test]
    fn shards_and_micro_batches_of_the_same_split_give_the_same_bits() {
        let (model, inputs, mut replicas) = start(8, 1);
        let of_shards = passed(&mut replicas, &model, &inputs);
        let in_two = PassOptions {
            micro_batch_size: Some(4),
            ..OPTIONS
        };
        let of_micro_batches = unwatched_pass(&model, &inputs, 8, in_two, None, AtNonFinite::Stop);
        assert_eq!(of_shards.loss, of_micro_batches.loss);
        let gradients = |pass: Pass| read(&model, &pass.gradients.expect("finite"));
        assert!(gradients(of_shards) == gradients(of_micro_batches));
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
            inputs,
            batch: 4,
            options: OPTIONS,
            kl_means: None,
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
        let parts = replicas.parts(8);
        for (worker, part) in replicas.workers.iter().zip(&parts[1..]) {
            let request = Request {
                weights: expected.clone(),
                inputs: inputs.part(part),
                batch: 8,
                options: OPTIONS,
                kl_means: None,
            };
            worker.requests.send(request).expect("it works");
        }
        for worker in &replicas.workers {
            let answer = worker.answers.recv().expect("it works");
            assert!(bits(&answer.weights) == bits(&expected));
        }
    }
}
