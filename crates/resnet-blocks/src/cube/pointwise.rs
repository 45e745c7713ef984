//! A 1x1 convolution with stride 1, or a dense layer, with its bias: what no norm follows.

use burn::prelude::Shape;
use burn_cubecl::tensor::CubeTensor;

use crate::precision::Precision;

use super::forward::Device;
use super::matrix::{Matrix, Storage, Vector32};
use super::pixels::{add_bias, column_sums, converted};
use super::tensors::{Maker, matrix, pixels_by_channels, storage};

/// The layer's operands, in the products' type: what it keeps for backward.
pub(super) struct Pointwise {
    device: Device,
    input: Matrix,
    weight: Matrix,
    /// The weight is `[channels_in, channels_out]`.
    is_exchanged: bool,
    /// The input's type.
    given: Storage,
}

impl Pointwise {
    pub(super) fn new(
        input: &CubeTensor,
        weight: &CubeTensor,
        channels_out: usize,
        is_exchanged: bool,
        precision: Precision,
    ) -> Self {
        let device = Device::of(input);
        let (client, inside, given) =
            (&device.client, Storage::of(precision), storage(input.dtype));
        let input = converted(client, &pixels_by_channels(input.clone()), inside);
        let rows = if is_exchanged {
            input.columns
        } else {
            channels_out
        };
        let weight = matrix(weight.clone(), rows);
        assert_eq!(
            weight.len(),
            input.columns * channels_out,
            "the layer takes {} channels, not {}",
            weight.len() / channels_out,
            input.columns
        );
        let weight = converted(client, &weight, inside);
        Self {
            input,
            weight,
            is_exchanged,
            given,
            device,
        }
    }

    /// The output in float32.
    pub(super) fn forward(&self, bias: &Vector32) -> Matrix {
        let client = &self.device.client;
        let out = Matrix::empty(client, self.input.rows, bias.len, Storage::F32);
        let weight = self.weight.operand(!self.is_exchanged);
        self.device
            .products
            .multiply(client, self.input.plain(), weight, &out, false);
        add_bias(client, &out, bias);
        out
    }

    /// The gradients of input, weight and bias.
    pub(super) fn gradients(
        &self,
        gradient: CubeTensor,
        shapes: &[Shape; 3],
        is_input_wanted: bool,
    ) -> [Option<CubeTensor>; 3] {
        let client = &self.device.client;
        let maker = Maker::like(&gradient);
        let wide = pixels_by_channels(gradient);
        let d_bias = column_sums(client, &wide, None, None, None);
        let gradient = converted(client, &wide, self.input.storage);
        let d_weight = Matrix::empty(client, self.weight.rows, self.weight.columns, Storage::F32);
        let (left, right) = if self.is_exchanged {
            (&self.input, &gradient)
        } else {
            (&gradient, &self.input)
        };
        self.device
            .products
            .multiply(client, left.transposed(), right.plain(), &d_weight, false);
        let d_input = is_input_wanted.then(|| {
            let d_input = Matrix::empty(client, self.input.rows, self.input.columns, self.given);
            let weight = self.weight.operand(self.is_exchanged);
            self.device
                .products
                .multiply(client, gradient.plain(), weight, &d_input, false);
            let shape = &shapes[0];
            maker.images(d_input, shape[0], [shape[2], shape[3]])
        });
        [
            d_input,
            Some(maker.tensor(d_weight, shapes[1].clone())),
            Some(maker.vector(d_bias, shapes[2].clone())),
        ]
    }
}
