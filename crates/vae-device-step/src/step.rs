//! The whole step, launched kernel by kernel or replayed as a graph.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use burn::nn::BatchNorm;
use burn::prelude::Tensor;
use cubecl::bytes::Bytes;
use cubecl::client::Graph;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Device as BlockDevice, Matrix, Queue, Storage, Vector32, Workspace, cubes, device_of, pixels,
    units, values,
};
use resnet_blocks::{Block, Sampling, Stage, variance_factor};
use vae_core::{DropoutMasks, Sampler, Vae};

use crate::factors::AdamOptions;
use crate::flat::{Flat, argument, create, read};
use crate::kernels::optimizer::{
    self, CHUNK_NUMBERS, RATES_FACTORS, RATES_KL_WEIGHT, RATES_KNOWN_UPDATES, RATES_LARGEST_NORM,
    RECORD_LEN, STATE_LEN, STATE_UPDATES,
};
use crate::kernels::{UNITS, latent, running};
use crate::network::{Batch, Network, record_len};
use crate::outcome::{Outcome, Pending, StepError};

/// Steps that may be under way when another one is asked for.
const MOST_UNREAD: usize = 3;
const RATES_LEN: usize = RATES_FACTORS + 2 * (MOST_UNREAD + 1);
/// Values of a vector in the optimizer's kernel: 16 bytes.
const WIDTH: usize = 4;

/// What does not change from step to step.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// Constants of the optimizer.
    pub adam: AdamOptions,
    /// How latents are drawn.
    pub sampler: Sampler,
    /// Whether steps are captured as a graph and replayed, where the device can.
    pub is_captured: bool,
}

/// A batch, on the device.
pub struct StepInputs {
    /// `[batch, channels, height, width]`, in \[0, 1\]
    pub images: Tensor<4>,
    /// `[batch, latent_dim]`, standard normal
    pub noise: Tensor<2>,
    /// What multiplies the intermediate features; none for no dropout.
    pub dropout: Option<DropoutMasks>,
}

/// What the host decides about a step.
#[derive(Clone, Copy, Debug)]
pub struct StepRates {
    /// Adam's.
    pub learning_rate: f64,
    /// What the objective multiplies the KL divergence with.
    pub kl_weight: f64,
    /// The step is skipped where the gradient's norm is larger.
    pub largest_norm: Option<f64>,
}

/// Which steps can share buffers and a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    batch: usize,
    size: [usize; 2],
    has_masks: bool,
}

/// A shape's buffers.
struct Prepared {
    batch: Batch,
    device: BlockDevice,
    /// The newest batch's weight in each running statistic.
    factors: Handle,
    workspace: Arc<Workspace>,
    launched: usize,
    graph: Option<Graph>,
}

/// The tables of the kernels that end a step.
struct Tables {
    chunks: Handle,
    coefficients: Handle,
    squares: Handle,
    penalties: Handle,
    names: Arc<Vec<String>>,
    bias_positions: Handle,
    kept: Handle,
}

/// A norm of the model, and what its statistics are taken over.
struct Norm {
    layer: String,
    norm: String,
    momentum: f64,
    /// Side of the map over that of the smallest one; none where it is one row an image.
    scale: Option<usize>,
}

/// A model on a device, with its optimizer, and the step that trains it: forward, loss, backward, the decision whether the step is taken, and Adam,
/// without a word from the host in between.
///
/// It stays on the thread that made it: a device's queue belongs to a thread.
pub struct DeviceStep {
    flat: Flat,
    network: Network,
    tables: Tables,
    norms: Vec<Norm>,
    options: StepOptions,
    device: BlockDevice,
    /// Lives as long as the program, as what is read may outlive the step.
    reader: &'static Client,
    rates: Handle,
    state: Handle,
    prepared: HashMap<Shape, Prepared>,
    known_updates: u64,
    unread: usize,
    /// Why steps are launched although they should be replayed.
    uncaptured: Option<String>,
}

impl DeviceStep {
    /// With the values of a model that is on one of CubeCL's devices, and an optimizer before its first update.
    ///
    /// None where the model is elsewhere, or there are no kernels for its form: these know bottlenecks with ReLU and the Bernoulli likelihood.
    pub fn new(model: &Vae, options: StepOptions) -> Option<Self> {
        let device = device_of(model.encoder.mean.weight.val().inner())?;
        let client = device.client.clone();
        // What stays as long as the model is as large as it has to be, and is never moved.
        client.memory_persistent_allocation((), |()| Self::on(device, model, options))
    }

    fn on(device: BlockDevice, model: &Vae, options: StepOptions) -> Option<Self> {
        let client: &Client = &device.client;
        let storage = Storage::of(model.encoder.precision);
        let flat = Flat::new(client, model, storage);
        let network = Network::new(model, &flat)?;
        let norms = norms(model)?;
        let tables = Tables::new(client, &flat, &norms)?;
        let step = Self {
            reader: Box::leak(Box::new(client.clone())),
            rates: create(client, &[0.0; RATES_LEN]),
            state: create(client, &[0.0; STATE_LEN]),
            prepared: HashMap::new(),
            known_updates: 0,
            unread: 0,
            uncaptured: None,
            flat,
            network,
            tables,
            norms,
            options,
            device,
        };
        step.narrow();
        Some(step)
    }

    fn client(&self) -> &Client {
        &self.device.client
    }

    /// Asks for a step.
    ///
    /// # Errors
    /// If the inputs are on another device, or more than three steps have not been [observed](Self::observe).
    pub fn step(&mut self, inputs: StepInputs, rates: StepRates) -> Result<Pending, StepError> {
        if self.unread > MOST_UNREAD {
            let text = format!(
                "{} steps are under way; observe their outcomes first",
                self.unread
            );
            return Err(StepError(text));
        }
        let [batch, _, height, width] = inputs.images.dims();
        let shape = Shape {
            batch,
            size: [height, width],
            has_masks: inputs.dropout.is_some(),
        };
        if !self.prepared.contains_key(&shape) {
            let client = self.client();
            let prepared = client.memory_persistent_allocation((), |()| self.prepare(shape));
            self.prepared.insert(shape, prepared);
        }
        self.write_rates(rates);
        let mut prepared = self.prepared.remove(&shape).expect("made just now");
        let written = self.write_inputs(&prepared.batch, inputs);
        let ran = written.and_then(|()| self.run(&mut prepared));
        let record = prepared.batch.record.clone();
        self.prepared.insert(shape, prepared);
        ran?;
        self.unread += 1;
        let reading = self.reader.read_async(vec![record]);
        Ok(Pending {
            reading: Box::pin(async move { reading.await.map_err(|error| format!("{error}")) }),
            batch,
            chunk_names: self.tables.names.clone(),
        })
    }

    /// Takes note of a step's outcome, in the order of the steps.
    pub fn observe(&mut self, outcome: &Outcome) {
        self.known_updates = outcome.updates;
        self.unread = self.unread.saturating_sub(1);
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

    /// Bytes on the device: parameters, moments and gradients, and the maps of every size of batch.
    pub fn bytes(&self) -> usize {
        let layout = &self.flat.layout;
        let each = if self.flat.narrow.is_some() { 18 } else { 16 };
        let maps = self
            .prepared
            .values()
            .map(|prepared| prepared.workspace.bytes());
        each * layout.parameters + 8 * layout.statistics + maps.sum::<usize>()
    }

    /// The model with the present values. Clones of `model` get its running statistics too, because Burn's modules share them.
    ///
    /// # Errors
    /// If the device failed.
    pub fn model(&self, model: Vae) -> Result<Vae, StepError> {
        let parameters = read(self.client(), &self.flat.weights).map_err(StepError)?;
        let statistics = read(self.client(), &self.flat.running).map_err(StepError)?;
        Ok(self.flat.layout.write(model, &parameters, &statistics))
    }

    /// The optimizer's moments, as `first.NAME` and `second.NAME` with the number of values.
    ///
    /// # Errors
    /// If the device failed.
    pub fn moments(&self) -> Result<BTreeMap<String, (Vec<usize>, Vec<f32>)>, StepError> {
        let mut all = BTreeMap::new();
        for (kind, buffer) in [("first", &self.flat.first), ("second", &self.flat.second)] {
            let values = read(self.client(), buffer).map_err(StepError)?;
            for (name, slot) in self.flat.layout.trainable() {
                let values = values[slot.offset..slot.offset + slot.len].to_vec();
                all.insert(format!("{kind}.{name}"), (vec![slot.len], values));
            }
        }
        Ok(all)
    }

    /// Goes on from an optimizer after so many updates; false where its moments are not those of this model.
    pub fn restore(
        &mut self,
        updates: u64,
        moments: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ) -> bool {
        let layout = &self.flat.layout;
        let mut buffers = Vec::new();
        for kind in ["first", "second"] {
            let mut all = vec![0.0; layout.parameters];
            for (name, slot) in layout.trainable() {
                let Some((_, values)) = moments.get(&format!("{kind}.{name}")) else {
                    // A parameter without a moment has never had a gradient; all have.
                    return false;
                };
                if values.len() != slot.len {
                    return false;
                }
                all[slot.offset..slot.offset + slot.len].copy_from_slice(values);
            }
            buffers.push(all);
        }
        let client = self.device.client.clone();
        client.write(&self.flat.first, Bytes::from_elems(buffers.remove(0)));
        client.write(&self.flat.second, Bytes::from_elems(buffers.remove(0)));
        let mut state = vec![0.0f32; STATE_LEN];
        state[STATE_UPDATES] = updates as f32;
        client.write(&self.state, Bytes::from_elems(state));
        self.known_updates = updates;
        true
    }

    /// The gradients of the last step, by name.
    ///
    /// # Errors
    /// If the device failed.
    pub fn gradients(&self) -> Result<BTreeMap<String, Vec<f32>>, StepError> {
        let values = read(self.client(), &self.flat.gradients).map_err(StepError)?;
        let named = self.flat.layout.trainable().map(|(name, slot)| {
            let values = values[slot.offset..slot.offset + slot.len].to_vec();
            (name.to_owned(), values)
        });
        Ok(named.collect())
    }

    fn prepare(&self, shape: Shape) -> Prepared {
        let client = self.client();
        let Shape { batch, size, .. } = shape;
        let storage = self.network.storage;
        let rows = batch * size[0] * size[1];
        let queue = Queue::new(client.clone());
        let matrix = |storage| Matrix::empty(&queue, rows, self.network.image_channels, storage);
        let masks = shape.has_masks.then(|| {
            self.network
                .features()
                .map(|features| client.empty(4 * batch * features))
        });
        let workspace = Arc::new(Workspace::default());
        Prepared {
            batch: Batch {
                len: batch,
                size,
                input: matrix(storage),
                pixels: matrix(Storage::F32),
                noise: client.empty(4 * batch * self.network.latent_dim),
                masks,
                record: client.empty(4 * record_len(batch)),
            },
            device: BlockDevice {
                client: Queue::with_workspace(client.clone(), workspace.clone()),
                products: self.device.products.clone(),
            },
            factors: create(client, &self.factors(batch)),
            workspace,
            launched: 0,
            graph: None,
        }
    }

    /// The newest batch's weight in each running statistic.
    fn factors(&self, batch: usize) -> Vec<f32> {
        let mut factors = vec![0.0; self.flat.layout.statistics];
        for norm in &self.norms {
            let side = norm.scale.map_or(1, |scale| scale * self.network.grid);
            let count = batch * side * side;
            for (statistic, factor) in [
                ("running_mean", 1.0),
                ("running_var", variance_factor(count)),
            ] {
                let slot = self.flat.layout.slot(&format!("{}.{statistic}", norm.norm));
                if let Some(slot) = slot {
                    let value = (norm.momentum * factor) as f32;
                    factors[slot.offset..slot.offset + slot.len].fill(value);
                }
            }
        }
        factors
    }

    fn write_rates(&self, rates: StepRates) {
        let mut values = vec![0.0f32; RATES_LEN];
        values[RATES_KNOWN_UPDATES] = self.known_updates as f32;
        values[RATES_LARGEST_NORM] = rates.largest_norm.map_or(f32::INFINITY, |norm| norm as f32);
        values[RATES_KL_WEIGHT] = rates.kl_weight as f32;
        for ahead in 0..=MOST_UNREAD {
            let update = self.known_updates + 1 + ahead as u64;
            let factors = self.options.adam.factors(update, rates.learning_rate);
            values[RATES_FACTORS + 2 * ahead..][..2].copy_from_slice(&factors);
        }
        self.client().write(&self.rates, Bytes::from_elems(values));
    }

    fn write_inputs(&self, batch: &Batch, inputs: StepInputs) -> Result<(), StepError> {
        let elsewhere = || StepError("a batch is on another device than the model".to_owned());
        let images = pixels(inputs.images).ok_or_else(elsewhere)?;
        let noise = values(inputs.noise).ok_or_else(elsewhere)?;
        let of_images = Vector32 {
            len: images.len(),
            buffer: images.buffer,
        };
        let (input, input_len) = (&batch.input, batch.input.len());
        let pixels = batch.pixels.buffer.handle();
        self.copy(&of_images, &input.buffer.handle(), input_len, input.storage);
        self.copy(&of_images, &pixels, batch.pixels.len(), Storage::F32);
        let noise_len = batch.len * self.network.latent_dim;
        self.copy(&noise, &batch.noise, noise_len, Storage::F32);
        if let (Some(to), Some(from)) = (&batch.masks, inputs.dropout) {
            let lens = self.network.features().map(|features| batch.len * features);
            for ((to, len), from) in to.iter().zip(lens).zip([from.encoder, from.decoder]) {
                self.copy(&values(from).ok_or_else(elsewhere)?, to, len, Storage::F32);
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Vector32, to: &Handle, count: usize, storage: Storage) {
        assert_eq!(from.len, count, "values of a batch");
        // SAFETY: one unit a value of each.
        unsafe {
            latent::copy::launch_unchecked(
                self.client(),
                cubes(count),
                units(),
                from.argument(),
                argument(to, count),
                count,
                storage.elem(),
            );
        }
    }

    /// Launches the step, or replays it; captures the second one of a shape.
    fn run(&mut self, prepared: &mut Prepared) -> Result<(), StepError> {
        let text = |error: cubecl::server::ServerError| format!("{error}");
        if let Some(graph) = &prepared.graph {
            // SAFETY: all buffers are held by `self` and its workspaces, and one thread uses the queue.
            return unsafe { graph.replay() }.map_err(|error| StepError(text(error)));
        }
        let is_to_capture =
            self.options.is_captured && self.uncaptured.is_none() && prepared.launched == 1;
        let client = self.device.client.clone();
        if is_to_capture && let Err(error) = client.graph_prepare() {
            self.uncaptured = Some(text(error));
        }
        self.launch(prepared);
        prepared.launched += 1;
        if is_to_capture && self.uncaptured.is_none() {
            // The step that has just been launched has filled the workspace; recorded is the same again.
            let recorded = client.start_capture().map(|()| self.launch(prepared));
            // Whatever happened, the queue must leave the capture.
            let graph = client.stop_capture();
            match recorded.and(graph) {
                Ok(graph) => prepared.graph = Some(graph),
                Err(error) => self.uncaptured = Some(text(error)),
            }
        }
        Ok(())
    }

    fn launch(&self, prepared: &Prepared) {
        let share = match self.options.sampler {
            Sampler::Correct => 0.5,
            Sampler::Blog => 1.0,
        };
        let Prepared { batch, device, .. } = prepared;
        self.network
            .forward_backward(device, batch, &self.rates, RATES_LEN, share);
        self.end(prepared);
    }

    /// Penalties, norm, decision, Adam and running statistics.
    fn end(&self, prepared: &Prepared) {
        let client = self.client();
        let (flat, tables, batch) = (&self.flat, &self.tables, &prepared.batch);
        let (parameters, statistics) = (flat.layout.parameters, flat.layout.statistics);
        let chunks = tables.names.len();
        let cube = CubeDim::new_1d(UNITS as u32);
        let AdamOptions {
            beta_1,
            beta_2,
            epsilon,
        } = self.options.adam;
        let narrow = flat.narrow.as_ref().unwrap_or(&flat.weights);
        let is_narrowed = flat.narrow.is_some();
        let rates = || argument(&self.rates, RATES_LEN);
        let state = || argument(&self.state, STATE_LEN);
        // SAFETY: every buffer has the number of values that it was made with; a chunk lies inside the parameters.
        unsafe {
            optimizer::squares::launch_unchecked(
                client,
                CubeCount::Static(chunks as u32, 1, 1),
                cube,
                argument(&flat.weights, parameters),
                argument(&flat.gradients, parameters),
                argument(&tables.chunks, CHUNK_NUMBERS * chunks),
                argument(&tables.coefficients, chunks),
                argument(&tables.squares, chunks),
                argument(&tables.penalties, chunks),
            );
            optimizer::decide::launch_unchecked(
                client,
                CubeCount::Static(1, 1, 1),
                cube,
                argument(&batch.record, record_len(batch.len)),
                argument(&tables.squares, chunks),
                argument(&tables.penalties, chunks),
                argument(&tables.chunks, CHUNK_NUMBERS * chunks),
                rates(),
                state(),
                record_len(batch.len) - RECORD_LEN,
                chunks,
            );
            optimizer::adam::launch_unchecked(
                client,
                cubes(parameters / WIDTH),
                units(),
                WIDTH,
                argument(&flat.gradients, parameters),
                argument(&flat.weights, parameters),
                argument(&flat.first, parameters),
                argument(&flat.second, parameters),
                argument(narrow, parameters),
                state(),
                rates(),
                parameters / WIDTH,
                beta_1 as f32,
                beta_2 as f32,
                (1.0 - beta_1) as f32,
                (1.0 - beta_2) as f32,
                epsilon as f32,
                is_narrowed,
                self.network.storage.elem(),
            );
            running::update_running::launch_unchecked(
                client,
                cubes(statistics),
                units(),
                argument(&flat.running, statistics),
                argument(&flat.moments, statistics),
                argument(&flat.weights, parameters),
                argument(&tables.bias_positions, statistics),
                argument(&tables.kept, statistics),
                argument(&prepared.factors, statistics),
                state(),
                statistics,
            );
        }
    }

    /// The weights in the products' type.
    fn narrow(&self) {
        let Some(narrow) = &self.flat.narrow else {
            return;
        };
        let count = self.flat.layout.parameters;
        // SAFETY: one unit a value of each.
        unsafe {
            optimizer::narrow_weights::launch_unchecked(
                self.client(),
                cubes(count),
                units(),
                argument(&self.flat.weights, count),
                argument(narrow, count),
                count,
                self.network.storage.elem(),
            );
        }
    }
}

impl Tables {
    fn new(client: &Client, flat: &Flat, norms: &[Norm]) -> Option<Self> {
        let layout = &flat.layout;
        let chunks = layout.chunks();
        let coefficients: Vec<f32> = chunks
            .iter()
            .map(|(_, name)| vae_core::penalty_weight(name).unwrap_or(0.0) as f32)
            .collect();
        let mut bias_positions = vec![running::NO_BIAS; layout.statistics];
        let mut kept = vec![0.0f32; layout.statistics];
        for norm in norms {
            let bias = layout.slot(&format!("{}.bias", norm.layer))?;
            let mean = layout.slot(&format!("{}.running_mean", norm.norm))?;
            let variance = layout.slot(&format!("{}.running_var", norm.norm))?;
            for channel in 0..mean.len {
                bias_positions[mean.offset + channel] = (bias.offset + channel) as u32;
            }
            for slot in [mean, variance] {
                let value = (1.0 - norm.momentum) as f32;
                kept[slot.offset..slot.offset + slot.len].fill(value);
            }
        }
        let mut parameter = 1u32;
        let mut table: Vec<u32> = Vec::with_capacity(CHUNK_NUMBERS * chunks.len());
        for (at, (slot, name)) in chunks.iter().enumerate() {
            parameter += u32::from(at > 0 && chunks[at - 1].1 != *name);
            table.extend([slot.offset as u32, slot.len as u32, parameter]);
        }
        Some(Self {
            chunks: client.create(Bytes::from_elems(table)),
            coefficients: create(client, &coefficients),
            squares: client.empty(4 * chunks.len()),
            penalties: client.empty(4 * chunks.len()),
            names: Arc::new(chunks.iter().map(|(_, name)| (*name).to_owned()).collect()),
            bias_positions: client.create(Bytes::from_elems(bias_positions)),
            kept: create(client, &kept),
        })
    }
}

/// Every norm of the model; none where it has blocks that are no bottlenecks.
fn norms(model: &Vae) -> Option<Vec<Norm>> {
    let mut all = Vec::new();
    let mut push = |layer: String, norm: &BatchNorm, scale| {
        all.push(Norm {
            norm: format!("{layer}_norm"),
            layer,
            momentum: norm.momentum,
            scale,
        });
    };
    let encoder = stage_norms(&model.encoder.stages, "encoder")?;
    let down: usize = encoder.iter().map(|block| block.stride).product();
    // A block's norms lie behind its stride.
    let mut scale = down;
    for block in encoder {
        scale /= block.stride;
        for (layer, norm) in block.norms {
            push(layer, norm, Some(scale));
        }
    }
    push(
        "encoder.dense".to_owned(),
        &model.encoder.dense_norm,
        Some(1),
    );
    push("decoder.dense".to_owned(), &model.decoder.dense_norm, None);
    let mut scale = 1;
    for block in stage_norms(&model.decoder.stages, "decoder")? {
        scale *= block.stride;
        for (layer, norm) in block.norms {
            push(layer, norm, Some(scale));
        }
    }
    Some(all)
}

struct BlockNorms<'a> {
    stride: usize,
    norms: Vec<(String, &'a BatchNorm)>,
}

fn stage_norms<'a>(stages: &'a [Stage], side: &str) -> Option<Vec<BlockNorms<'a>>> {
    let mut all = Vec::new();
    for (at_stage, stage) in stages.iter().enumerate() {
        for (at, block) in stage.blocks.iter().enumerate() {
            let Block::Bottleneck(block) = block else {
                return None;
            };
            let name = format!("{side}.stages.{at_stage}.{at}");
            let expected = match side {
                "encoder" => Sampling::Strided,
                _ => Sampling::Transposed,
            };
            if block.reduce.stride > 1 && block.reduce.sampling != expected {
                return None;
            }
            let mut norms = vec![
                (format!("{name}.reduce"), &block.reduce_norm),
                (format!("{name}.spatial"), &block.spatial_norm),
                (format!("{name}.expand"), &block.expand_norm),
            ];
            if let Some(projection) = &block.shortcut.projection {
                norms.push((format!("{name}.shortcut"), &projection.norm));
            }
            all.push(BlockNorms {
                stride: block.reduce.stride,
                norms,
            });
        }
    }
    Some(all)
}
