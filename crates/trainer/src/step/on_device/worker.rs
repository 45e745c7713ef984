//! The other GPUs of a process, which work for the main one: each has a thread of its own, as a device's queue belongs to a thread, and a copy of the weights.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::prelude::*;
use burn::tensor::TensorData;
use vae_core::DropoutMasks;

use crate::step::passes::pass::Inputs;

type Work<G> = Box<dyn FnOnce(&mut G, &Device) + Send>;

/// The worker of another GPU, as the main one's thread sees it: the worker's own thread holds the `G`.
pub(super) struct GpuWorker<G> {
    work: Sender<Work<G>>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker is going to answer.
pub(super) struct Answer<T>(Receiver<T>);

impl<G: 'static> GpuWorker<G> {
    /// Starts the thread of a device, which makes what it holds there; none where it makes nothing.
    pub(super) fn start(
        device: &Device,
        make: impl FnOnce(&Device) -> Option<G> + Send + 'static,
    ) -> Option<Self> {
        let (work, asked) = channel::<Work<G>>();
        let (ready, is_ready) = channel();
        let device = device.clone();
        let thread = std::thread::spawn(move || {
            let own = make(&device);
            let _ = ready.send(own.is_some());
            let Some(mut own) = own else { return };
            for work in asked {
                work(&mut own, &device);
            }
        });
        let mut gpu = Self {
            work,
            thread: Some(thread),
        };
        gpu.wait(Answer(is_ready)).then_some(gpu)
    }

    /// Asks for work, which is done in the order of the calls.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut G, &Device) -> T + Send + 'static,
    ) -> Answer<T> {
        let (answer, answers) = channel();
        // A thread that is gone shows when its answer is missing; an answer need not be waited for.
        let _ = self.work.send(Box::new(move |own, device| {
            let _ = answer.send(work(own, device));
        }));
        Answer(answers)
    }

    /// Waits for an answer.
    ///
    /// # Panics
    /// Where the device has failed, with the same reason.
    pub(super) fn wait<T>(&mut self, answer: Answer<T>) -> T {
        if let Ok(answer) = answer.0.recv() {
            return answer;
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => panic!("a GPU's thread has ended"),
        }
    }
}

/// Inputs on the way to another device, by way of the host, which every pair of devices has.
pub(super) struct HostInputs {
    images: TensorData,
    noise: TensorData,
    dropout: Option<[TensorData; 2]>,
}

impl HostInputs {
    /// Reads them. Waits for their device.
    pub(super) fn read(inputs: Inputs) -> Self {
        let Inputs {
            images,
            noise,
            dropout,
        } = inputs;
        Self {
            images: images.tensor().into_data(),
            noise: noise.into_data(),
            dropout: dropout.map(|masks| [masks.encoder.into_data(), masks.decoder.into_data()]),
        }
    }

    /// On a device.
    pub(super) fn write(&self, device: &Device) -> Inputs {
        Inputs {
            images: Tensor::<4>::from_data(self.images.clone(), device).into(),
            noise: Tensor::from_data(self.noise.clone(), device),
            dropout: self
                .dropout
                .as_ref()
                .map(|[encoder, decoder]| DropoutMasks {
                    encoder: Tensor::from_data(encoder.clone(), device),
                    decoder: Tensor::from_data(decoder.clone(), device),
                }),
        }
    }
}
