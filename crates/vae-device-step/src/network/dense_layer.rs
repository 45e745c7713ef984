//! A dense layer with its norm in training, forward and backward.

use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, Device, Mask, Matrix, Statistics, Storage, batch_statistics, cubes, gradient_apply,
    gradient_sums, units,
};

use super::{DenseNorm, Network};
use crate::flat::argument;
use crate::kernels::dense;

/// What the dense layer of one side keeps.
pub(super) struct KeptDense {
    input: Matrix,
    map: Matrix,
    statistics: Statistics,
    pub(super) features: Matrix,
}

impl Network {
    /// With the statistics of the batch.
    pub(super) fn dense_forward(
        &self,
        device: &Device,
        layer: &DenseNorm,
        input: Matrix,
        mask: Option<&Handle>,
    ) -> KeptDense {
        let map = self.dense_map(device, layer, &input);
        let (queue, into) = (&device.client, Some(&layer.moments));
        let (statistics, _) = batch_statistics(queue, &map, 1, layer.epsilon, into);
        let features = self.dense_features(queue, layer, &map, &statistics, mask);
        KeptDense {
            input,
            map,
            statistics,
            features,
        }
    }

    /// The gradient of the layer's input, of that storage.
    pub(super) fn dense_backward(
        &self,
        device: &Device,
        layer: &DenseNorm,
        kept: KeptDense,
        gradient: &Matrix,
        mask: Option<&Handle>,
        storage: Storage,
    ) -> Matrix {
        let queue = &device.client;
        let KeptDense {
            input,
            map,
            statistics,
            ..
        } = kept;
        let affine = &layer.parameters.affine;
        let of_norm = Matrix::empty(queue, map.rows, map.columns, map.storage);
        let count = map.len();
        // SAFETY: as in `dense_features`.
        unsafe {
            dense::activate_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                map.argument(),
                statistics.mean.argument(),
                statistics.inverse.argument(),
                affine.gamma.argument(),
                affine.beta.argument(),
                mask.map(|mask| argument(mask, count)).into(),
                gradient.argument(),
                of_norm.argument(),
                count,
                map.columns,
                self.activation,
                map.storage.elem(),
            );
        }
        let mask = Mask::None;
        let slot: Option<&Affine> = Some(&layer.gradients.affine);
        let sums = gradient_sums(queue, &map, mask, &of_norm, &statistics, affine, slot);
        let gradient = gradient_apply(
            queue,
            &map,
            mask,
            &of_norm,
            &statistics,
            affine,
            &sums,
            1,
            None,
            true,
        );
        drop(of_norm);
        let out = Matrix {
            buffer: layer.gradients.weight.buffer.clone(),
            rows: layer.weight.rows,
            columns: layer.weight.columns,
            storage: Storage::F32,
        };
        let products = &device.products;
        products.multiply(queue, input.transposed(), gradient.plain(), &out, false);
        let d_input = Matrix::empty(queue, input.rows, input.columns, storage);
        let weight = layer.weight.transposed();
        products.multiply(queue, gradient.plain(), weight, &d_input, false);
        d_input
    }
}
