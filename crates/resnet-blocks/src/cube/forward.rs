//! A bottleneck forward.

use std::sync::Arc;

use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;

use crate::operation::{Around, BlockConfig, Sizes, position};

use super::matrix::{Matrix, Storage, Vector32};
use super::norm::{
    Added, Affine, Moments, Statistics, batch_statistics, block_tail, given_statistics, norm_relu,
};
use super::pixels::{
    Grid, constant_kinds, converted, interleaved_sum, pack_spatial, patches, sample,
};
use super::product::{Products, products};
use super::queue::Queue;
use super::tensors::{pixels_by_channels, vector};

/// What a device offers to a block.
#[derive(Clone)]
pub struct Device {
    pub client: Queue,
    pub products: Arc<dyn Products>,
    /// Its index among CUDA's devices; none where it is another backend's.
    pub cuda: Option<u16>,
}

impl Device {
    /// Of the device that a tensor lies on.
    pub(super) fn of(tensor: &CubeTensor) -> Self {
        Self {
            client: Queue::new(tensor.client.clone()),
            products: products(&tensor.client, &tensor.device),
            cuda: cuda_index(&tensor.device),
        }
    }
}

fn cuda_index(device: &CubeDevice) -> Option<u16> {
    #[cfg(feature = "cuda")]
    if let CubeDevice::Cuda(device) = device {
        return Some(device.index as u16);
    }
    let _ = device;
    None
}

/// A 1x1 convolution's weights in the maps' type, and its norm's parameters.
#[derive(Clone)]
pub(super) struct Layer {
    /// `[channels_out, channels_in]`, or the other way round where `is_exchanged`.
    pub(super) weight: Matrix,
    pub(super) is_exchanged: bool,
    pub(super) bias: Vector32,
    pub(super) affine: Affine,
}

impl Layer {
    fn read(
        device: &Device,
        inputs: &[CubeTensor],
        at: usize,
        is_exchanged: bool,
        storage: Storage,
    ) -> Self {
        let [weight, bias, gamma, beta] = std::array::from_fn(|index| inputs[at + index].clone());
        let bias = vector(bias);
        let weight = vector(weight);
        let channels_in = weight.len / bias.len;
        let rows = if is_exchanged { channels_in } else { bias.len };
        let weight = Matrix {
            rows,
            columns: weight.len / rows,
            storage: Storage::F32,
            buffer: weight.buffer,
        };
        Self {
            weight: converted(&device.client, &weight, storage),
            is_exchanged,
            bias,
            affine: Affine {
                gamma: vector(gamma),
                beta: vector(beta),
            },
        }
    }

    /// The layer's product for every row, without the bias.
    fn product(&self, device: &Device, x: &Matrix) -> Matrix {
        let out = Matrix::empty(&device.client, x.rows, self.bias.len, x.storage);
        let weight = self.weight.operand(!self.is_exchanged);
        device
            .products
            .multiply(&device.client, x.plain(), weight, &out, false);
        out
    }
}

/// The 3x3 convolution's weights and its norm's parameters.
#[derive(Clone)]
pub(super) struct SpatialLayer {
    /// `[channels_out, channels_in, 3, 3]`, float32
    pub(super) weight: Vector32,
    pub(super) bias: Vector32,
    pub(super) affine: Affine,
}

/// The layers of a bottleneck.
#[derive(Clone)]
pub(super) struct Layers {
    pub(super) reduce: Layer,
    pub(super) spatial: SpatialLayer,
    pub(super) expand: Layer,
    pub(super) shortcut: Option<Layer>,
}

/// A norm's input and statistics.
#[derive(Clone)]
pub(super) struct Normed {
    pub(super) map: Matrix,
    pub(super) statistics: Statistics,
}

/// What a bottleneck keeps for backward.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) device: Device,
    pub(super) config: BlockConfig,
    pub(super) sizes: Sizes,
    pub(super) layers: Layers,
    /// The rows that reduce and shortcut multiply: the input, or those of it that the stride samples.
    pub(super) input: Matrix,
    pub(super) reduce: Normed,
    /// `relu(norm(reduce))`; less its constant where the block enlarges.
    pub(super) reduced: Matrix,
    /// That constant, and the weights it was multiplied with.
    pub(super) constant: Option<(Vector32, Matrix)>,
    pub(super) spatial: Normed,
    /// `relu(norm(spatial))`; none once its gradient has taken its place.
    pub(super) filtered: Option<Matrix>,
    pub(super) expand: Normed,
    pub(super) shortcut: Option<Normed>,
    pub(super) output: Matrix,
}

/// Where the statistics of a block's norms come from.
enum Source<'a> {
    Batch {
        /// Of each norm.
        moments: Vec<Moments>,
        /// Where they are to be written; none for new memory.
        into: Option<&'a [Moments]>,
    },
    /// Of each norm, of the product with its bias.
    Running(&'a [Moments]),
}

struct Forward<'a> {
    device: Device,
    epsilon: [f64; 4],
    source: Source<'a>,
}

impl Forward<'_> {
    /// The statistics of the `index`-th norm over a map that stands for `spread` times as many positions.
    fn statistics(
        &mut self,
        index: usize,
        map: &Matrix,
        spread: usize,
        bias: &Vector32,
    ) -> Statistics {
        let epsilon = self.epsilon[index] as f32;
        match &mut self.source {
            Source::Batch { moments, into } => {
                let client = &self.device.client;
                let into = into.map(|all| &all[index]);
                let (statistics, of_norm) = batch_statistics(client, map, spread, epsilon, into);
                moments.push(of_norm);
                statistics
            }
            Source::Running(running) => {
                given_statistics(&self.device.client, &running[index], bias, epsilon)
            }
        }
    }

    fn norm(&mut self, index: usize, map: Matrix, spread: usize, bias: &Vector32) -> Normed {
        let statistics = self.statistics(index, &map, spread, bias);
        Normed { map, statistics }
    }
}

/// A block with batch statistics: what it keeps (its output among it), and the moments of each norm.
pub(super) fn train(config: BlockConfig, inputs: &[CubeTensor]) -> (Kept, Vec<Moments>) {
    let (device, sizes, layers, input) = read(&config, inputs);
    train_layers(config, device, sizes, layers, input, None)
}

/// As [`train`], from layers that are read already; the moments go to `into` where that is given.
pub(super) fn train_layers(
    config: BlockConfig,
    device: Device,
    sizes: Sizes,
    layers: Layers,
    input: Matrix,
    into: Option<&[Moments]>,
) -> (Kept, Vec<Moments>) {
    let moments = Vec::new();
    let source = Source::Batch { moments, into };
    let (kept, source) = forward(config, device, sizes, layers, input, source);
    match source {
        Source::Batch { moments, .. } => (kept, moments),
        Source::Running(_) => unreachable!("the batch's statistics were asked for"),
    }
}

/// A block with running statistics.
pub(super) fn infer(
    config: BlockConfig,
    inputs: &[CubeTensor],
    running: &[CubeTensor],
) -> (Sizes, Matrix) {
    let (device, sizes, layers, input) = read(&config, inputs);
    let running: Vec<Moments> = running
        .chunks(2)
        .map(|pair| Moments {
            mean: vector(pair[0].clone()),
            variance: vector(pair[1].clone()),
        })
        .collect();
    let output = infer_layers(config, device, sizes, layers, input, &running);
    (sizes, output)
}

/// As [`infer`], from layers that are read already.
pub(super) fn infer_layers(
    config: BlockConfig,
    device: Device,
    sizes: Sizes,
    layers: Layers,
    input: Matrix,
    running: &[Moments],
) -> Matrix {
    let source = Source::Running(running);
    let (kept, _) = forward(config, device, sizes, layers, input, source);
    kept.output
}

/// A block's input in the maps' type, and its layers.
fn read(config: &BlockConfig, inputs: &[CubeTensor]) -> (Device, Sizes, Layers, Matrix) {
    let sizes = Sizes::new(config, inputs);
    let storage = Storage::of(config.precision);
    let device = Device::of(&inputs[position::INPUT]);
    let client = device.client.clone();
    let layers = Layers {
        reduce: Layer::read(
            &device,
            inputs,
            position::REDUCE,
            config.is_transposed,
            storage,
        ),
        spatial: SpatialLayer {
            weight: vector(inputs[position::SPATIAL].clone()),
            bias: vector(inputs[position::SPATIAL + 1].clone()),
            affine: Affine {
                gamma: vector(inputs[position::SPATIAL + 2].clone()),
                beta: vector(inputs[position::SPATIAL + 3].clone()),
            },
        },
        expand: Layer::read(&device, inputs, position::EXPAND, false, storage),
        shortcut: (config.around == Around::Projection).then(|| {
            Layer::read(
                &device,
                inputs,
                position::SHORTCUT,
                config.is_transposed,
                storage,
            )
        }),
    };
    let whole = converted(
        &client,
        &pixels_by_channels(inputs[position::INPUT].clone()),
        storage,
    );
    (device, sizes, layers, whole)
}

fn forward<'a>(
    config: BlockConfig,
    device: Device,
    sizes: Sizes,
    layers: Layers,
    whole: Matrix,
    source: Source<'a>,
) -> (Kept, Source<'a>) {
    let storage = whole.storage;
    let client = device.client.clone();
    let input = match sizes.down {
        1 => whole.clone(),
        _ => sample(&client, &sizes.down_grid(), &whole, None),
    };
    let spread = sizes.up * sizes.up;
    let mut pass = Forward {
        device: device.clone(),
        epsilon: config.epsilon,
        source,
    };

    let map = layers.reduce.product(&device, &input);
    let reduce = pass.norm(0, map, spread, &layers.reduce.bias);
    let is_enlarging = sizes.up > 1;
    let reduced = norm_relu(
        &client,
        &reduce.map,
        &reduce.statistics,
        &layers.reduce.affine,
        is_enlarging,
    );

    let (map, constant) = match is_enlarging {
        false => (filter(&device, &sizes, &reduced, &layers.spatial), None),
        true => {
            let packed = pack_spatial(
                &client,
                &layers.spatial.weight,
                [sizes.width; 2],
                true,
                storage,
            );
            let affine = &layers.reduce.affine;
            let (constant, kinds) = constant_kinds(&client, &packed, &reduce.statistics, affine);
            let map = filter_interleaved(&device, &sizes, &reduced, &packed, &kinds);
            (map, Some((constant, packed)))
        }
    };
    let spatial = pass.norm(1, map, 1, &layers.spatial.bias);
    let filtered = norm_relu(
        &client,
        &spatial.map,
        &spatial.statistics,
        &layers.spatial.affine,
        false,
    );

    let map = layers.expand.product(&device, &filtered);
    let expand = pass.norm(2, map, 1, &layers.expand.bias);
    let shortcut = layers.shortcut.as_ref().map(|layer| {
        let map = layer.product(&device, &input);
        pass.norm(3, map, spread, &layer.bias)
    });
    let added = match (config.around, &shortcut, &layers.shortcut) {
        (Around::Identity, ..) => Added::Value(&whole),
        (Around::Projection, Some(normed), Some(layer)) => Added::Normalized {
            map: &normed.map,
            statistics: &normed.statistics,
            affine: &layer.affine,
            stride: sizes.up,
        },
        _ => Added::Nothing,
    };
    let output = block_tail(
        &client,
        &expand.map,
        &expand.statistics,
        &layers.expand.affine,
        added,
        sizes.output,
    );
    let kept = Kept {
        device,
        config,
        sizes,
        layers,
        input,
        reduce,
        reduced,
        constant,
        spatial,
        filtered: Some(filtered),
        expand,
        shortcut,
        output,
    };
    (kept, pass.source)
}

/// The 3x3 convolution of a map with a value at every position.
fn filter(device: &Device, sizes: &Sizes, x: &Matrix, layer: &SpatialLayer) -> Matrix {
    let client = &device.client;
    let packed = pack_spatial(client, &layer.weight, [sizes.width; 2], false, x.storage);
    let gathered = patches(client, &sizes.up_grid(), x);
    let out = Matrix::empty(client, x.rows, sizes.width, x.storage);
    device
        .products
        .multiply(client, gathered.plain(), packed.plain(), &out, false);
    out
}

/// The 3x3 convolution of a map that has `x` plus a constant on every `up`-th row and column and the constant elsewhere; the constant alone gives
/// `kinds`.
fn filter_interleaved(
    device: &Device,
    sizes: &Sizes,
    x: &Matrix,
    packed: &Matrix,
    kinds: &Vector32,
) -> Matrix {
    let client = &device.client;
    let taps = Matrix::empty(client, x.rows, packed.rows, x.storage);
    device
        .products
        .multiply(client, x.plain(), packed.transposed(), &taps, false);
    interleaved_sum(client, &sizes.up_grid(), &taps, kinds)
}

impl Sizes {
    /// The input's grid and what the stride samples of it.
    pub(super) fn down_grid(&self) -> Grid {
        Grid {
            images: self.batch,
            size: self.input,
            low: self.low,
            stride: self.down,
        }
    }

    /// The output's grid and the rows that have a value of their own before the 3x3 convolution.
    pub(super) fn up_grid(&self) -> Grid {
        Grid {
            images: self.batch,
            size: self.output,
            low: self.low,
            stride: self.up,
        }
    }
}
