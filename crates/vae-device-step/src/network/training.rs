//! Forward with the batch's statistics, loss and backward, in the order in which they run.

use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, Device, KeptBlock, Mask, Matrix, Queue, Statistics, Storage, batch_statistics,
    column_sums, cubes, gradient_apply, gradient_sums, units,
};

use super::{Batch, BlockWithStatistics, DenseNorm, Network, Output, product, viewed};
use crate::flat::argument;
use crate::kernels::optimizer::RATES_KL_WEIGHT;
use crate::kernels::{dense, latent};

/// What the dense layer of one side keeps.
struct KeptDense {
    input: Matrix,
    map: Matrix,
    statistics: Statistics,
    features: Matrix,
}

impl Network {
    /// Writes each image's terms of the loss, the moments of every norm, and the gradients of the mean of the objective but for the penalties.
    pub(crate) fn forward_backward(
        &self,
        device: &Device,
        batch: &Batch,
        rates: &Handle,
        rates_len: usize,
        share: f32,
    ) {
        let queue = &device.client;
        let (kept_encoder, map, _) = forward(
            &self.encoder,
            device,
            batch.input.clone(),
            batch.len,
            batch.size,
        );
        let dense = self.dense_forward(device, &self.dense, map, batch.mask(0));
        let features = viewed(&dense.features, batch.len);
        let mean = product(device, &features, &self.mean.weight, Storage::F32);
        let log_variance = product(device, &features, &self.log_variance.weight, Storage::F32);
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        self.draw(queue, batch, &mean, &log_variance, &z, share);

        let latent_dense = self.dense_forward(device, &self.latent_dense, z, batch.mask(1));
        let map = viewed(&latent_dense.features, batch.len * self.grid * self.grid);
        let (kept_decoder, map, _) = forward(&self.decoder, device, map, batch.len, [self.grid; 2]);
        let parameters = self.output_map(device, &map);
        let d_parameters = self.loss(queue, batch, &parameters);
        drop(parameters);

        // Backward.
        column_sums(
            queue,
            &d_parameters,
            None,
            None,
            Some(&self.output.bias_gradient),
        );
        let (left, right) = if self.is_output_exchanged {
            (&map, &d_parameters)
        } else {
            (&d_parameters, &map)
        };
        weight_gradient(device, left, right, &self.output);
        let d_map = Matrix::empty(queue, map.rows, map.columns, self.storage);
        let weight = self.output.weight.operand(self.is_output_exchanged);
        device
            .products
            .multiply(queue, d_parameters.plain(), weight, &d_map, false);
        drop((map, d_parameters));
        let d_map = backward(&self.decoder, kept_decoder, d_map, true).expect("it is wanted");
        let d_features = viewed(&d_map, batch.len);
        let (layer, mask) = (&self.latent_dense, batch.mask(1));
        let d_z = self.dense_backward(device, layer, latent_dense, &d_features, mask, Storage::F32);
        drop((d_map, d_features));

        let [d_mean, d_log_variance] = self.draw_gradient(
            queue,
            batch,
            [&mean, &log_variance, &d_z],
            rates,
            rates_len,
            share,
        );
        for (head, gradient) in [(&self.mean, &d_mean), (&self.log_variance, &d_log_variance)] {
            column_sums(queue, gradient, None, None, Some(&head.bias_gradient));
            weight_gradient(device, &features, gradient, head);
        }
        let d_features = Matrix::empty(queue, features.rows, features.columns, self.storage);
        let products = &device.products;
        let weight = self.mean.weight.transposed();
        products.multiply(queue, d_mean.plain(), weight, &d_features, false);
        let weight = self.log_variance.weight.transposed();
        products.multiply(queue, d_log_variance.plain(), weight, &d_features, true);
        drop(features);
        let d_features = viewed(&d_features, batch.len * self.grid * self.grid);
        let (layer, mask) = (&self.dense, batch.mask(0));
        let d_map = self.dense_backward(device, layer, dense, &d_features, mask, self.storage);
        drop(d_features);
        backward(&self.encoder, kept_encoder, d_map, false);
    }

    fn dense_forward(
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
    fn dense_backward(
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

    fn draw_gradient(
        &self,
        queue: &Queue,
        batch: &Batch,
        [mean, log_variance, d_z]: [&Matrix; 3],
        rates: &Handle,
        rates_len: usize,
        share: f32,
    ) -> [Matrix; 2] {
        let count = d_z.len();
        let empty = || Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let (d_mean, d_log_variance) = (empty(), empty());
        // SAFETY: one unit a value of each.
        unsafe {
            latent::draw_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                mean.argument(),
                log_variance.argument(),
                argument(&batch.noise, count),
                d_z.argument(),
                argument(rates, rates_len),
                d_mean.argument(),
                d_log_variance.argument(),
                count,
                share,
                1.0 / batch.len as f32,
                RATES_KL_WEIGHT,
                self.storage.elem(),
            );
        }
        [d_mean, d_log_variance]
    }
}

/// What the blocks keep, the last one's output, and its size.
fn forward(
    blocks: &[BlockWithStatistics],
    device: &Device,
    mut map: Matrix,
    batch: usize,
    mut size: [usize; 2],
) -> (Vec<KeptBlock>, Matrix, [usize; 2]) {
    let mut kept = Vec::with_capacity(blocks.len());
    for BlockWithStatistics { block, .. } in blocks {
        let of_block = block.forward(device, map, batch, size);
        map = of_block.output().clone();
        size = of_block.size();
        kept.push(of_block);
    }
    (kept, map, size)
}

/// The gradient of the first block's input where it is wanted. Each block's maps are free for the next as soon as it is done.
fn backward(
    blocks: &[BlockWithStatistics],
    kept: Vec<KeptBlock>,
    gradient: Matrix,
    is_input_wanted: bool,
) -> Option<Matrix> {
    let mut gradient = Some(gradient);
    for (index, (BlockWithStatistics { block, .. }, kept)) in
        blocks.iter().zip(kept).enumerate().rev()
    {
        let is_wanted = index > 0 || is_input_wanted;
        gradient = block.backward(kept, &gradient?, is_wanted);
    }
    gradient
}

/// `left^T * right` as the gradient of a layer's weight.
fn weight_gradient(device: &Device, left: &Matrix, right: &Matrix, layer: &Output) {
    let out = Matrix {
        buffer: layer.weight_gradient.buffer.clone(),
        rows: layer.weight.rows,
        columns: layer.weight.columns,
        storage: Storage::F32,
    };
    let products = &device.products;
    products.multiply(
        &device.client,
        left.transposed(),
        right.plain(),
        &out,
        false,
    );
}
