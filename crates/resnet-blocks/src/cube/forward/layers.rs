//! The layers of a bottleneck, and how they are read.

use burn_cubecl::tensor::CubeTensor;

use crate::cube::matrix::{Matrix, Storage, Vector32};
use crate::cube::norm::Affine;
use crate::cube::pixels::converted;
use crate::cube::tensors::{pixels_by_channels, vector};
use crate::operation::{Around, BlockConfig, Sizes, position};

use super::device::Device;

/// A 1x1 convolution's weights in the maps' type, and its norm's parameters.
#[derive(Clone)]
pub(in crate::cube) struct Layer {
    /// `[channels_out, channels_in]`, or the other way round where `is_exchanged`.
    pub(in crate::cube) weight: Matrix,
    pub(in crate::cube) is_exchanged: bool,
    pub(in crate::cube) bias: Vector32,
    pub(in crate::cube) affine: Affine,
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
    pub(super) fn product(&self, device: &Device, x: &Matrix) -> Matrix {
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
pub(in crate::cube) struct SpatialLayer {
    /// `[channels_out, channels_in, 3, 3]`, float32
    pub(in crate::cube) weight: Vector32,
    pub(in crate::cube) bias: Vector32,
    pub(in crate::cube) affine: Affine,
}

/// The layers of a bottleneck.
#[derive(Clone)]
pub(in crate::cube) struct Layers {
    pub(in crate::cube) reduce: Layer,
    pub(in crate::cube) spatial: SpatialLayer,
    pub(in crate::cube) expand: Layer,
    pub(in crate::cube) shortcut: Option<Layer>,
}

/// A block's input in the maps' type, and its layers.
pub(super) fn read(config: &BlockConfig, inputs: &[CubeTensor]) -> (Device, Sizes, Layers, Matrix) {
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
