//! A bottleneck backward.

use burn::backend::TensorMetadata;
use burn::prelude::Shape;
use burn_cubecl::tensor::CubeTensor;

use crate::operation::{Around, position};

use super::between_values::{Elsewhere, add_elsewhere, tap_sums};
use super::forward::{Kept, Layer, Normed};
use super::matrix::{Matrix, Storage, Vector32};
use super::norm::{Affine, Mask, gradient_apply, gradient_sums, successor};
use super::pixels::{column_sums, converted, patches, sample, spread_rows, vector_or};
use super::spatial_weights::{pack_spatial, unpack_spatial_gradient};
use super::tensors::{Maker, pixels_by_channels};

/// Where a layer's gradients are to be written.
#[derive(Clone)]
pub struct GradientSlots {
    /// As many values as the layer's weight.
    pub weight: Vector32,
    /// `[channels]` each.
    pub affine: Affine,
}

impl Kept {
    /// The gradients of all inputs in their order.
    pub(super) fn backward(
        &self,
        gradient: CubeTensor,
        inputs: &Inputs,
        is_input_wanted: bool,
    ) -> Vec<Option<CubeTensor>> {
        let maker = Maker::like(&gradient);
        let gradient = pixels_by_channels(gradient);
        // Burn may ask again.
        let (input, layers) = self.clone().gradients(&gradient, is_input_wanted, None);
        let input = input.map(|input| {
            let input = converted(&self.device.client, &input, inputs.storage);
            maker.images(input, self.sizes.batch, self.sizes.input)
        });
        let mut all = vec![input];
        for (at, layer) in layers.into_iter().enumerate() {
            let [weight, bias, gamma, beta] = std::array::from_fn(|tensor| {
                inputs.shapes[position::REDUCE + 4 * at + tensor].clone()
            });
            all.push(Some(maker.vector(layer.weight, weight)));
            // A bias before a norm has no influence.
            all.push(Some(inputs.zeros(&bias)));
            all.push(Some(maker.vector(layer.affine.gamma, gamma)));
            all.push(Some(maker.vector(layer.affine.beta, beta)));
        }
        all
    }

    /// The gradients of the input and of each layer, which go to `into` where that is given.
    pub(super) fn gradients(
        mut self,
        gradient: &Matrix,
        is_input_wanted: bool,
        into: Option<&[GradientSlots]>,
    ) -> (Option<Matrix>, Vec<GradientSlots>) {
        let filtered = self.filtered.take().expect("kept by forward");
        let (client, sizes, layers) = (&self.device.client, &self.sizes, &self.layers);
        let slots = |layer: usize| into.map(|all| &all[layer]);
        let weight_slot = |layer: usize| slots(layer).map(|slots| &slots.weight);
        let affine_slot = |layer: usize| slots(layer).map(|slots| &slots.affine);
        let spread = sizes.up * sizes.up;
        let output = Mask::Output(&self.output);
        // Whoever has slots gives the block's maps away with this; Burn may ask again.
        let is_last = into.is_some();

        // The end of the block: the norm behind the expanding product, and what the ReLU lets through to the shortcut.
        let is_identity = self.config.around == Around::Identity;
        let passed = is_identity
            .then(|| Matrix::empty(client, gradient.rows, gradient.columns, gradient.storage));
        let Normed { map, statistics } = &self.expand;
        let affine = &layers.expand.affine;
        let sums = affine_slot(2);
        let expand_sums = gradient_sums(client, map, output, gradient, statistics, affine, sums);
        let d_expand = gradient_apply(
            client,
            map,
            output,
            gradient,
            statistics,
            affine,
            &expand_sums,
            1,
            passed.as_ref(),
            is_last,
        );
        let (layer, slot) = (&layers.expand, weight_slot(2));
        let expand_weight = self.weight_gradient(layer, &filtered, &d_expand, slot);
        let d_filtered = successor(client, &filtered, is_last);
        drop(filtered);
        self.add_input_gradient(layer, &d_expand, &d_filtered, false);
        drop(d_expand);
        let expand = GradientSlots {
            weight: expand_weight,
            affine: expand_sums,
        };

        // The 3x3 convolution, and the norms before and behind it.
        let Normed { map, statistics } = &self.spatial;
        let affine = &layers.spatial.affine;
        let (mask, sums) = (Mask::Input, affine_slot(1));
        let spatial_sums = gradient_sums(client, map, mask, &d_filtered, statistics, affine, sums);
        let d_spatial = gradient_apply(
            client,
            map,
            Mask::Input,
            &d_filtered,
            statistics,
            affine,
            &spatial_sums,
            1,
            None,
            is_last,
        );
        drop(d_filtered);
        let gathered = patches(client, &sizes.up_grid(), &d_spatial);
        let storage = gathered.storage;
        let packed = match &self.constant {
            Some((_, packed)) => packed.clone(),
            None => pack_spatial(
                client,
                &layers.spatial.weight,
                [sizes.width; 2],
                true,
                storage,
            ),
        };
        let d_packed = Matrix::empty(client, packed.rows, packed.columns, Storage::F32);
        self.device.products.multiply(
            client,
            gathered.transposed(),
            self.reduced.plain(),
            &d_packed,
            false,
        );
        let d_reduced = successor(client, &self.reduced, is_last);
        self.device
            .products
            .multiply(client, gathered.plain(), packed.plain(), &d_reduced, false);
        drop(gathered);
        let Normed { map, statistics } = &self.reduce;
        let affine = &layers.reduce.affine;
        let (mask, sums) = (Mask::Input, affine_slot(0));
        let reduce_sums = gradient_sums(client, map, mask, &d_reduced, statistics, affine, sums);
        let spatial_weight = match &self.constant {
            None => unpack_spatial_gradient(client, &d_packed, None, weight_slot(1)),
            Some((constant, packed)) => {
                // The constant stands at every position but those of the values.
                let taps = tap_sums(client, &sizes.up_grid(), &d_spatial);
                let at_values = column_sums(client, &d_reduced, None, None, None);
                let elsewhere = column_sums(client, packed, Some(&taps), Some(&at_values), None);
                add_elsewhere(
                    client,
                    Elsewhere::Sum(&elsewhere),
                    statistics,
                    affine,
                    &reduce_sums,
                    true,
                );
                let constant = Some((&taps, constant));
                unpack_spatial_gradient(client, &d_packed, constant, weight_slot(1))
            }
        };
        drop(d_spatial);
        let spatial = GradientSlots {
            weight: spatial_weight,
            affine: spatial_sums,
        };
        let d_reduce = gradient_apply(
            client,
            map,
            Mask::Input,
            &d_reduced,
            statistics,
            affine,
            &reduce_sums,
            spread,
            None,
            is_last,
        );
        drop(d_reduced);

        // The two products that read the input.
        let slot = weight_slot(0);
        let reduce_weight = self.weight_gradient(&layers.reduce, &self.input, &d_reduce, slot);
        let reduce = GradientSlots {
            weight: reduce_weight,
            affine: reduce_sums,
        };
        let shortcut = match (&self.shortcut, &layers.shortcut) {
            (Some(normed), Some(layer)) => {
                let tail = &expand.affine;
                Some(self.shortcut_backward(normed, layer, gradient, tail, slots(3)))
            }
            _ => None,
        };
        let input = is_input_wanted.then(|| {
            let d_input = passed.unwrap_or_else(|| {
                Matrix::empty(client, self.input.rows, self.input.columns, storage)
            });
            self.add_input_gradient(&layers.reduce, &d_reduce, &d_input, is_identity);
            if let (Some((d_shortcut, _)), Some(layer)) = (&shortcut, &layers.shortcut) {
                self.add_input_gradient(layer, d_shortcut, &d_input, true);
            }
            match sizes.down {
                1 => d_input,
                _ => spread_rows(client, &sizes.down_grid(), &d_input),
            }
        });

        let shortcut = shortcut.map(|(_, layer)| layer);
        let layers = [reduce, spatial, expand].into_iter().chain(shortcut);
        (input, layers.collect())
    }

    fn add_input_gradient(&self, layer: &Layer, gradient: &Matrix, d_x: &Matrix, is_added: bool) {
        let weight = layer.weight.operand(layer.is_exchanged);
        self.device
            .products
            .multiply(&self.device.client, gradient.plain(), weight, d_x, is_added);
    }

    fn weight_gradient(
        &self,
        layer: &Layer,
        x: &Matrix,
        gradient: &Matrix,
        into: Option<&Vector32>,
    ) -> Vector32 {
        let values = vector_or(&self.device.client, into, layer.weight.len());
        let out = Matrix {
            buffer: values.buffer.clone(),
            rows: layer.weight.rows,
            columns: layer.weight.columns,
            storage: Storage::F32,
        };
        let (left, right) = if layer.is_exchanged {
            (x, gradient)
        } else {
            (gradient, x)
        };
        self.device.products.multiply(
            &self.device.client,
            left.transposed(),
            right.plain(),
            &out,
            false,
        );
        values
    }

    /// The gradient of the shortcut's product, and those of its layer; `tail` holds the sum of the gradient at all positions.
    fn shortcut_backward(
        &self,
        normed: &Normed,
        layer: &Layer,
        gradient: &Matrix,
        tail: &Affine,
        into: Option<&GradientSlots>,
    ) -> (Matrix, GradientSlots) {
        let client = &self.device.client;
        let spread = self.sizes.up * self.sizes.up;
        let low = sample(client, &self.sizes.up_grid(), gradient, Some(&self.output));
        let Normed { map, statistics } = normed;
        let (mask, slot) = (Mask::None, into.map(|slots| &slots.affine));
        let sums = gradient_sums(client, map, mask, &low, statistics, &layer.affine, slot);
        if spread > 1 {
            add_elsewhere(
                client,
                Elsewhere::All(&tail.beta),
                statistics,
                &layer.affine,
                &sums,
                false,
            );
        }
        let d_map = gradient_apply(
            client,
            map,
            Mask::None,
            &low,
            statistics,
            &layer.affine,
            &sums,
            spread,
            None,
            into.is_some(),
        );
        let slot = into.map(|slots| &slots.weight);
        let weight = self.weight_gradient(layer, &self.input, &d_map, slot);
        (
            d_map,
            GradientSlots {
                weight,
                affine: sums,
            },
        )
    }
}

/// What the gradients have to look like: the inputs' shapes and the first one's type.
pub(super) struct Inputs {
    pub(super) shapes: Vec<Shape>,
    pub(super) storage: Storage,
    /// As many zeros as the largest bias has.
    zeros: CubeTensor,
}

impl Inputs {
    pub(super) fn of(inputs: &[CubeTensor]) -> Self {
        let largest = inputs
            .iter()
            .skip(position::REDUCE + 1)
            .step_by(4)
            .map(|bias| bias.shape().num_elements())
            .max();
        let first = &inputs[position::INPUT];
        Self {
            shapes: inputs.iter().map(TensorMetadata::shape).collect(),
            storage: super::tensors::storage(first.dtype),
            zeros: super::tensors::zeros(largest.unwrap_or(0), first),
        }
    }

    fn zeros(&self, shape: &Shape) -> CubeTensor {
        super::tensors::first_values(&self.zeros, shape.clone())
    }
}
