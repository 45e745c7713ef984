//! Forward with the batch's statistics, loss and backward, in the order in which they run.

use resnet_blocks::cube::{Device, Matrix, Storage, column_sums};

use super::blocks::{Kept, backward, forward};
use super::dense_layer::KeptDense;
use super::{Batch, Network, Objective, Output, Posterior, product, viewed};

/// What the encoder's side keeps.
struct KeptEncoder {
    blocks: Vec<Kept>,
    dense: KeptDense,
    /// The dense layer's, a row an image.
    features: Matrix,
    /// With the heads' biases after the draw.
    posterior: Posterior,
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
            self.sum_kl(queue, batch, &of_encoder.posterior, objective);
            self.free_bits(queue, batch, objective, free);
        }
        let KeptEncoder {
            blocks: kept_encoder,
            dense,
            features,
            posterior,
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
            self.draw_gradient(queue, batch, (&posterior, &d_z), objective);
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
        self.sum_kl(&device.client, batch, &of_encoder.posterior, objective);
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
        let posterior = Posterior {
            mean: product(device, &features, &self.mean.weight, Storage::F32),
            log_variance: product(device, &features, &self.log_variance.weight, Storage::F32),
        };
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let biases = [&self.mean.bias, &self.log_variance.bias];
        self.draw(queue, batch, &posterior, biases, &z, share);
        let kept = KeptEncoder {
            blocks,
            dense,
            features,
            posterior,
        };
        (kept, z)
    }
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
