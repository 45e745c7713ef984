//! Forward with the batch's statistics, loss and backward, in the order in which they run.

use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, Device, KeptBlock, Mask, Matrix, Queue, Statistics, Storage, batch_statistics,
    column_sums, cubes, gradient_apply, gradient_sums, units,
};

use super::{
    Batch, BlockWithStatistics, DenseNorm, Network, Objective, Output, product, record_len, viewed,
};
use crate::flat::argument;
use crate::kernels::optimizer::{RATES_KL_WEIGHT, RATES_LEN, RECORD_FREE_BITS, RECORD_LEN};
use crate::kernels::{UNITS, dense, latent};

/// What the dense layer of one side keeps.
struct KeptDense {
    input: Matrix,
    map: Matrix,
    statistics: Statistics,
    features: Matrix,
}

/// What the encoder's side keeps.
struct KeptEncoder {
    blocks: Vec<Kept>,
    dense: KeptDense,
    /// The dense layer's, a row an image.
    features: Matrix,
    /// Of the posterior; both with their biases after the draw.
    mean: Matrix,
    log_variance: Matrix,
}

impl Network {
    /// Writes each image's terms of the loss, the moments of every norm, and the gradients of the mean of the objective but for the penalties.
    ///
    /// What each latent dimension's divergence counts is the batch's own matter where `decides`, and else what lies in the objective's buffer.
    pub(crate) fn forward_backward(
        &self,
        device: &Device,
        batch: &Batch,
        objective: &Objective,
        decides: bool,
    ) {
        let queue = &device.client;
        let (of_encoder, z) = self.encode(device, batch, objective.share, self.is_recomputed);
        if let (Some(free), true) = (objective.free_bits, decides) {
            self.sum_kl(queue, batch, &of_encoder, objective);
            self.free_bits(queue, batch, objective, free);
        }
        let KeptEncoder {
            blocks: kept_encoder,
            dense,
            features,
            mean,
            log_variance,
        } = of_encoder;

        let latent_dense = self.dense_forward(device, &self.latent_dense, z, batch.mask(1));
        let map = viewed(&latent_dense.features, batch.len * self.grid * self.grid);
        let size = (batch.len, [self.grid; 2]);
        let (kept_decoder, map) = forward(&self.decoder, device, map, size, self.is_recomputed);
        let parameters = self.output_map(device, &map);
        let (d_parameters, d_scales) = self.loss(queue, batch, &parameters);
        drop(parameters);
        self.pixels.sum_scale_gradients(queue, d_scales);

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
        let d_map = backward(
            &self.decoder,
            kept_decoder,
            (device, batch.len),
            d_map,
            true,
        );
        let d_map = d_map.expect("it is wanted");
        let d_features = viewed(&d_map, batch.len);
        let (layer, mask) = (&self.latent_dense, batch.mask(1));
        let d_z = self.dense_backward(device, layer, latent_dense, &d_features, mask, Storage::F32);
        drop((d_map, d_features));

        let [d_mean, d_log_variance] =
            self.draw_gradient(queue, batch, [&mean, &log_variance, &d_z], objective);
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
        backward(
            &self.encoder,
            kept_encoder,
            (device, batch.len),
            d_map,
            false,
        );
    }

    /// Each latent dimension's divergence, summed over the images of a batch that is to be trained on.
    pub(crate) fn kl_sums(&self, device: &Device, batch: &Batch, objective: &Objective) {
        let (of_encoder, _) = self.encode(device, batch, objective.share, true);
        self.sum_kl(&device.client, batch, &of_encoder, objective);
    }

    /// The encoder's side and the draw, `[batch, latent_dim]`.
    fn encode(
        &self,
        device: &Device,
        batch: &Batch,
        share: f32,
        keeps_inputs: bool,
    ) -> (KeptEncoder, Matrix) {
        let queue = &device.client;
        let input = batch.input.clone();
        let size = (batch.len, batch.size);
        let (blocks, map) = forward(&self.encoder, device, input, size, keeps_inputs);
        let dense = self.dense_forward(device, &self.dense, map, batch.mask(0));
        let features = viewed(&dense.features, batch.len);
        let mean = product(device, &features, &self.mean.weight, Storage::F32);
        let log_variance = product(device, &features, &self.log_variance.weight, Storage::F32);
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        self.draw(queue, batch, &mean, &log_variance, &z, share);
        let kept = KeptEncoder {
            blocks,
            dense,
            features,
            mean,
            log_variance,
        };
        (kept, z)
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
        objective: &Objective,
    ) -> [Matrix; 2] {
        let count = d_z.len();
        let empty = || Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let (d_mean, d_log_variance) = (empty(), empty());
        // SAFETY: one unit a value of each; a slope for each dimension.
        unsafe {
            latent::draw_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                mean.argument(),
                log_variance.argument(),
                argument(&batch.noise, count),
                d_z.argument(),
                argument(&objective.rates, RATES_LEN),
                argument(&objective.kl_slopes, self.latent_dim),
                d_mean.argument(),
                d_log_variance.argument(),
                count,
                self.latent_dim,
                objective.share,
                1.0 / batch.len as f32,
                RATES_KL_WEIGHT,
                self.storage.elem(),
            );
        }
        [d_mean, d_log_variance]
    }

    fn sum_kl(
        &self,
        queue: &Queue,
        batch: &Batch,
        of_encoder: &KeptEncoder,
        objective: &Objective,
    ) {
        // SAFETY: one unit a dimension.
        unsafe {
            latent::kl_sums::launch_unchecked(
                queue,
                cubes(self.latent_dim),
                units(),
                of_encoder.mean.argument(),
                of_encoder.log_variance.argument(),
                argument(&objective.kl_sums, self.latent_dim),
                batch.len,
                self.latent_dim,
            );
        }
    }

    fn free_bits(&self, queue: &Queue, batch: &Batch, objective: &Objective, free: f32) {
        let len = record_len(batch.len);
        // SAFETY: one cube goes through the dimensions.
        unsafe {
            latent::free_bits::launch_unchecked(
                queue,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                argument(&objective.kl_sums, self.latent_dim),
                argument(&objective.kl_slopes, self.latent_dim),
                argument(&batch.record, len),
                len - RECORD_LEN + RECORD_FREE_BITS,
                self.latent_dim,
                1.0 / batch.len as f32,
                free,
            );
        }
    }
}

/// What a block keeps for backward: everything, or its input and that one's size.
enum Kept {
    All(Box<KeptBlock>),
    Input(Matrix, [usize; 2]),
}

/// What the blocks keep, and the last one's output.
fn forward(
    blocks: &[BlockWithStatistics],
    device: &Device,
    mut map: Matrix,
    (batch, mut size): (usize, [usize; 2]),
    keeps_inputs: bool,
) -> (Vec<Kept>, Matrix) {
    let mut kept = Vec::with_capacity(blocks.len());
    for BlockWithStatistics { block, .. } in blocks {
        let input = (map.clone(), size);
        let of_block = block.forward(device, map, batch, size);
        map = of_block.output().clone();
        size = of_block.size();
        kept.push(if keeps_inputs {
            Kept::Input(input.0, input.1)
        } else {
            Kept::All(Box::new(of_block))
        });
    }
    (kept, map)
}

/// The gradient of the first block's input where it is wanted. Each block's maps are free for the next as soon as it is done.
fn backward(
    blocks: &[BlockWithStatistics],
    kept: Vec<Kept>,
    (device, batch): (&Device, usize),
    gradient: Matrix,
    is_input_wanted: bool,
) -> Option<Matrix> {
    let mut gradient = Some(gradient);
    for (index, (BlockWithStatistics { block, .. }, kept)) in
        blocks.iter().zip(kept).enumerate().rev()
    {
        let kept = match kept {
            Kept::All(kept) => *kept,
            // The same kernels with the same numbers, which the moments get once more.
            Kept::Input(input, size) => block.forward(device, input, batch, size),
        };
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
