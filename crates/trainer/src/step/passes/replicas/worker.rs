//! The thread of another device than the main one: it computes the shards that it is asked for.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::prelude::*;
use run_files::metrics::BatchLoss;

use super::norm_meeting::Seat;
use super::weights::with_weights;
use crate::experiment::model::{Model, ModelConfig};
use crate::step::kl_objective::KlWeights;
use crate::step::passes::pass::{Inputs, PassOptions};
use crate::step::passes::shards::{ShardSum, sum_of_shards};
use crate::step::running_statistics::with_statistics_vector;

/// The worker of another device, as the main one sees it.
pub(super) struct Worker {
    config: ModelConfig,
    device: Device,
    /// From the first request on: where devices take steps of their own there is none.
    running: Option<Running>,
}

/// The thread, which has a copy of the model.
struct Running {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// For a device, an autodiff one.
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        Self {
            config: config.clone(),
            device: device.clone(),
            running: None,
        }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The form of its model, and where that is.
    #[cfg(feature = "cube")]
    pub(super) fn place(&self) -> (&ModelConfig, &Device) {
        (&self.config, &self.device)
    }

    /// Asks for shards, whose [`answer`](Self::answer) is to be waited for.
    pub(super) fn ask(&mut self, request: Request) {
        let (config, device) = (&self.config, &self.device);
        let running = self.running.get_or_insert_with(|| {
            let (requests, received) = channel();
            let (answer, answers) = channel();
            let (config, device) = (config.clone(), device.clone());
            let thread = std::thread::spawn(move || work(&config, &device, &received, &answer));
            Running {
                requests,
                answers,
                thread,
            }
        });
        // A thread that is gone shows when its answer is missing.
        let _ = running.requests.send(request);
    }

    /// The answer to a request.
    ///
    /// # Panics
    /// Where the backend has panicked on that thread, with the same reason; or nothing was asked for.
    pub(super) fn answer(&mut self) -> Answer {
        let running = self.running.take().expect("asked before");
        let Ok(answer) = running.answers.recv() else {
            match running.thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a replica works as long as it gets requests"),
            }
        };
        self.running = Some(running);
        answer
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
    /// Where the norms of all shards meet.
    pub(super) seat: Option<Seat>,
}

/// What they gave.
pub(super) struct Answer {
    pub(super) loss: BatchLoss,
    /// As [`ShardSum::vector`], on the device of the worker.
    pub(super) vector: Tensor<1>,
    /// The weights that the pass was made with.
    #[cfg(test)]
    pub(super) weights: Vec<Tensor<1>>,
}

/// What a replica's thread does.
fn work(
    config: &ModelConfig,
    device: &Device,
    requests: &Receiver<Request>,
    answers: &Sender<Answer>,
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
        let answer = Answer {
            loss,
            vector,
            #[cfg(test)]
            weights: super::weights::weights(&model),
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}
