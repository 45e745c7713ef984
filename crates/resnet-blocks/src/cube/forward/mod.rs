//! A bottleneck forward.

mod device;
mod layers;
mod spatial;
mod statistics;

use burn_cubecl::tensor::CubeTensor;

use crate::operation::{Around, BlockConfig, Sizes};

use super::between_values::constant_kinds;
use super::matrix::{Matrix, Vector32};
use super::norm::{Added, Moments, block_tail, norm_relu};
use super::pixels::sample;
use super::spatial_weights::pack_spatial;
use super::tensors::vector;

use self::layers::read;
use self::spatial::{filter, filter_interleaved};
use self::statistics::{Forward, Source};

pub use self::device::Device;
pub(super) use self::layers::{Layer, Layers, SpatialLayer};
pub(super) use self::statistics::Normed;

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
