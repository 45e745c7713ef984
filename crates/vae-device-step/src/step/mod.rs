//! The whole step, launched kernel by kernel or replayed as a graph; and the evaluation of a batch.

mod after;
mod buffers;
mod capture;
mod draws;
mod ending;
mod evaluation;
mod inputs;
mod norms;
mod prepared;
mod shards;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{Device as BlockDevice, Storage, Workspace, device_of};
use vae_core::{Sampler, Vae};
use vae_measures::average_decay;

use self::buffers::{Prepared, Shape, Summed, Tables, Work};
use self::draws::KeptPosterior;
pub use self::draws::Posteriors;
pub use self::inputs::{StepInputs, StepOptions, StepRates, Weights};
use self::norms::{Norm, norms};
pub use self::shards::ShardPass;
use crate::flat::{Flat, create};
use crate::kernels::optimizer::{
    FACTORS, MOST_UNREAD, RATES_FACTORS, RATES_KNOWN_UPDATES, RATES_LARGEST_NORM, RATES_LEN,
    STATE_LEN,
};
use crate::network::{Network, Objective};
use crate::outcome::{Outcome, Pending, Reading, StepError};

/// A model on a device, with its optimizer, and the step that trains it: forward, loss, backward, the decision whether the step is taken, and Adam,
/// without waiting for the host in between.
///
/// It stays on the thread that made it: a device's queue belongs to a thread.
pub struct DeviceStep {
    flat: Flat,
    network: Network,
    /// The network with the average of the weights.
    averaged: Option<Network>,
    objective: Objective,
    tables: Tables,
    norms: Vec<Norm>,
    options: StepOptions,
    device: BlockDevice,
    /// Lives as long as the program, as what is read may outlive the step.
    reader: &'static Client,
    prepared: HashMap<Shape, Prepared>,
    /// Posteriors from which draws are made, by the number of images that there is room for.
    posteriors: HashMap<usize, KeptPosterior>,
    /// For steps whose gradients are a sum.
    summed: Option<Summed>,
    /// Where the sums lie.
    sums: Arc<Workspace>,
    known_updates: u64,
    unread: usize,
    /// Whether something small has been captured.
    has_rehearsed: bool,
    /// Why steps are launched although they should be replayed.
    uncaptured: Option<String>,
    refuses_captures: bool,
}

impl DeviceStep {
    /// With the values of a model that is on one of CubeCL's devices, and an optimizer before its first update.
    ///
    /// None where the model is elsewhere, or there are no kernels for its form: these know bottlenecks with ReLU.
    pub fn new(model: &Vae, options: StepOptions) -> Option<Self> {
        let device = device_of(model.encoder.mean.weight.val().inner())?;
        let client = device.client.clone();
        // What stays as long as the model is as large as it has to be, and is never moved.
        client.memory_persistent_allocation((), |()| Self::on(device, model, options))
    }

    fn on(device: BlockDevice, model: &Vae, options: StepOptions) -> Option<Self> {
        let client: &Client = &device.client;
        let storage = Storage::of(model.encoder.precision);
        let has_average = options.average_decay.is_some();
        let flat = Flat::new(client, model, storage, has_average);
        let network = Network::new(model, &flat, options.is_recomputed)?;
        let averaged = flat.averaged();
        let averaged = averaged.and_then(|flat| Network::new(model, &flat, false));
        let norms = norms(model)?;
        let tables = Tables::new(client, &flat, &norms)?;
        let step = Self {
            reader: Box::leak(Box::new(client.clone())),
            objective: Objective {
                rates: create(client, &[0.0; RATES_LEN]),
                state: create(client, &[0.0; STATE_LEN]),
                kl_sums: create(client, &vec![0.0; network.latent_dim]),
                kl_slopes: create(client, &vec![1.0; network.latent_dim]),
                free_bits: options.free_bits.map(|free| free as f32),
                share: match options.sampler {
                    Sampler::Correct => 0.5,
                    Sampler::Blog => 1.0,
                },
            },
            prepared: HashMap::new(),
            posteriors: HashMap::new(),
            summed: None,
            sums: Arc::default(),
            known_updates: 0,
            unread: 0,
            has_rehearsed: false,
            uncaptured: None,
            refuses_captures: false,
            flat,
            network,
            averaged,
            tables,
            norms,
            options,
            device,
        };
        step.narrow(Weights::Trained);
        Some(step)
    }

    fn client(&self) -> &Client {
        &self.device.client
    }

    /// The index of its device among CUDA's; none where it is another backend's.
    pub fn cuda_index(&self) -> Option<u16> {
        self.device.cuda
    }

    /// Asks for a step.
    ///
    /// # Errors
    /// If the inputs are on another device, or more than three steps have not been [observed](Self::observe).
    pub fn step(&mut self, inputs: StepInputs, rates: StepRates) -> Result<Pending, StepError> {
        self.has_room()?;
        let shape = Shape::of(&inputs, Work::Step);
        self.write_rates(rates);
        let reading = self.ask(inputs, shape)?;
        self.unread += 1;
        Ok(Pending {
            reading,
            batch: shape.batch,
            has_free_bits: self.options.free_bits.is_some(),
            chunk_names: self.tables.names.clone(),
        })
    }

    /// Whether another step may be asked for.
    fn has_room(&self) -> Result<(), StepError> {
        if self.unread > MOST_UNREAD {
            let text = format!(
                "{} steps are under way; observe their outcomes first",
                self.unread
            );
            return Err(StepError(text));
        }
        Ok(())
    }

    /// Has a batch's work done, and its record read.
    fn ask(&mut self, inputs: StepInputs, shape: Shape) -> Result<Reading, StepError> {
        if !self.prepared.contains_key(&shape) {
            let client = self.client();
            let images = &inputs.images;
            let prepared =
                client.memory_persistent_allocation((), |()| self.prepare(shape, images));
            self.prepared.insert(shape, prepared);
        }
        let mut prepared = self.prepared.remove(&shape).expect("made just now");
        let written = self.write_inputs(&prepared, inputs);
        let ran = written.and_then(|()| self.run(&mut prepared));
        let record = match shape.work {
            Work::KlSums => self.objective.kl_sums.clone(),
            _ => prepared.batch.record.clone(),
        };
        self.prepared.insert(shape, prepared);
        ran?;
        Ok(self.read_later(record))
    }

    fn read_later(&self, record: Handle) -> Reading {
        let reading = self.reader.read_async(vec![record]);
        Box::pin(async move { reading.await.map_err(|error| format!("{error}")) })
    }

    /// Captures nothing from here on: for processes in which other threads use other devices, which CUDA does not allow beside a capture.
    pub fn launch_always(&mut self) {
        self.options.is_captured = false;
    }

    /// Takes note of a step's outcome, in the order of the steps.
    ///
    /// # Errors
    /// If a matrix product was not made: what the steps have written since is wrong then, whatever their outcomes say.
    pub fn observe(&mut self, outcome: &Outcome) -> Result<(), StepError> {
        self.known_updates = outcome.updates;
        self.unread = self.unread.saturating_sub(1);
        self.check()
    }

    /// Whether all matrix products have been made, of the work that something has been read of.
    ///
    /// # Errors
    /// If one was not.
    pub fn check(&self) -> Result<(), StepError> {
        match self.device.products.failure() {
            None => Ok(()),
            Some(error) => Err(StepError(error)),
        }
    }

    /// Whether the steps of this size of batch are replayed, and why not where they should be.
    pub fn capture_failure(&self) -> Option<&str> {
        self.uncaptured.as_deref()
    }

    /// Whether any step has been captured.
    pub fn is_captured(&self) -> bool {
        self.prepared
            .values()
            .any(|prepared| prepared.graph.is_some())
    }

    /// Bytes on the device: parameters, moments and gradients, sums of shards, and the maps of every size of batch.
    pub fn bytes(&self) -> usize {
        // Evaluation and training of one size share theirs.
        let mut counted: Vec<&Arc<Workspace>> = Vec::new();
        for Prepared { workspace, .. } in self.prepared.values() {
            if !counted.iter().any(|other| Arc::ptr_eq(other, workspace)) {
                counted.push(workspace);
            }
        }
        let maps = counted.into_iter().map(|workspace| workspace.bytes());
        self.flat.bytes() + self.sums.bytes() + maps.sum::<usize>()
    }

    fn write_rates(&self, rates: StepRates) {
        let mut values = vec![0.0f32; RATES_LEN];
        values[RATES_KNOWN_UPDATES] = self.known_updates as f32;
        values[RATES_LARGEST_NORM] = rates.largest_norm.map_or(f32::INFINITY, |norm| norm as f32);
        for (ahead, kl_weight) in rates.kl_weights.into_iter().enumerate() {
            let update = self.known_updates + 1 + ahead as u64;
            let [step_size, second_scale] = self.options.adam.factors(update, rates.learning_rate);
            let decay = self.options.average_decay;
            let to_average = decay.map_or(0.0, |decay| 1.0 - average_decay(decay, update - 1));
            values[RATES_FACTORS + FACTORS * ahead..][..FACTORS].copy_from_slice(&[
                step_size,
                second_scale,
                to_average as f32,
                kl_weight as f32,
            ]);
        }
        self.client()
            .write(&self.objective.rates, Bytes::from_elems(values));
    }
}
