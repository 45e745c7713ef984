//! The thread of a further device: it computes the shards that it is asked for.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::prelude::*;
use run_files::metrics::BatchLoss;
use vae_core::VaeConfig;

use super::all_reduce::AllReduce;
use super::norm_meeting::Seat;
use super::weights::with_weights;
use crate::experiment::model::Model;
use crate::step::kl_objective::KlWeights;
use crate::step::pass::{Inputs, PassOptions};
use crate::step::running_statistics::with_statistics_vector;
use crate::step::shards::{ShardSum, sum_of_shards};

/// A further device, as the main one sees it.
pub(super) struct Worker {
    pub(super) device: Device,
    pub(super) requests: Sender<Request>,
    /// The loss of a pass, once it is done.
    pub(super) losses: Receiver<BatchLoss>,
    pub(super) answers: Receiver<Answer>,
    pub(super) thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a thread for a device, an autodiff one.
    pub(super) fn start(config: &VaeConfig, device: &Device, all_reduce: &AllReduce) -> Self {
        let (requests, received) = channel();
        let (done, losses) = channel();
        let (answer, answers) = channel();
        let (config, all_reduce) = (config.clone(), all_reduce.clone());
        let of_thread = device.clone();
        let thread = std::thread::spawn(move || {
            let answers = Answers { done, answer };
            work(&config, &of_thread, &all_reduce, &received, &answers);
        });
        Self {
            device: device.clone(),
            requests,
            losses,
            answers,
            thread,
        }
    }
}

/// Shards to compute.
pub(super) struct Request {
    /// Of the main device, flattened, in the order of the module.
    pub(super) weights: Vec<Tensor<1>>,
    /// Of the main device.
    pub(super) running_statistics: Tensor<1>,
    pub(super) inputs: Inputs,
    pub(super) shards: usize,
    /// Images of the whole batch.
    pub(super) batch: usize,
    pub(super) options: PassOptions,
    pub(super) kl: KlWeights,
    /// Whether every device of the rank has shards.
    pub(super) is_complete: bool,
    /// Where the norms of all shards meet.
    pub(super) seat: Option<Seat>,
}

/// What they gave.
pub(super) struct Answer {
    /// What the shards add up to; see [`AllReduce`] for who needs it.
    pub(super) vector: Tensor<1>,
    /// The weights that the pass was made with.
    #[cfg(test)]
    pub(super) weights: Vec<Tensor<1>>,
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
            weights: super::weights::weights(&model),
        };
        if answers.answer.send(answer).is_err() {
            return;
        }
    }
}
