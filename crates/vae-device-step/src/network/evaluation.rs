//! Forward with the running statistics, and the terms of the loss.

use resnet_blocks::cube::{Device, Matrix, Vector32, given_statistics};

use super::{Batch, BlockWithStatistics, DenseNorm, Network, Posterior, viewed};

impl Network {
    /// Writes each image's terms of the loss: what [`forward_backward`](Self::forward_backward) writes of them, with the running statistics.
    pub(crate) fn evaluate(&self, device: &Device, batch: &Batch, share: f32) {
        let posterior = Posterior::empty(&device.client, batch.len, self.latent_dim);
        let z = self.infer_posterior(device, batch, &posterior, share);
        self.score(device, batch, z);
    }

    /// Writes the posterior of each image, the divergences that [`evaluate`](Self::evaluate) writes, and a draw.
    pub(crate) fn infer_posterior(
        &self,
        device: &Device,
        batch: &Batch,
        posterior: &Posterior,
        share: f32,
    ) -> Matrix {
        let queue = &device.client;
        let input = batch.input.clone();
        let map = infer(&self.encoder, device, input, batch.len, batch.size);
        let features = self.dense_inferred(device, &self.dense, &map);
        drop(map);
        let features = viewed(&features, batch.len);
        let Posterior { mean, log_variance } = posterior;
        for (head, out) in [(&self.mean, mean), (&self.log_variance, log_variance)] {
            let weight = head.weight.plain();
            device
                .products
                .multiply(queue, features.plain(), weight, out, false);
        }
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let biases = [&self.mean.bias, &self.log_variance.bias];
        self.draw(queue, batch, posterior, biases, &z, share);
        z
    }

    /// Writes what [`evaluate`](Self::evaluate) does, of another draw from a posterior that has been computed before; `no_bias` has a zero for each
    /// latent dimension.
    pub(crate) fn score_draw(
        &self,
        device: &Device,
        batch: &Batch,
        posterior: &Posterior,
        no_bias: &Vector32,
        share: f32,
    ) {
        let queue = &device.client;
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        // What it adds to mean and log-variance it has added.
        self.draw(queue, batch, posterior, [no_bias; 2], &z, share);
        self.score(device, batch, z);
    }

    /// Writes each image's negative log-probability where its latent is `z`.
    fn score(&self, device: &Device, batch: &Batch, z: Matrix) {
        let queue = &device.client;
        let features = self.dense_inferred(device, &self.latent_dense, &z);
        let map = viewed(&features, batch.len * self.grid * self.grid);
        let map = infer(&self.decoder, device, map, batch.len, [self.grid; 2]);
        let parameters = self.output_map(device, &map);
        self.loss(queue, batch, &parameters);
    }

    fn dense_inferred(&self, device: &Device, layer: &DenseNorm, input: &Matrix) -> Matrix {
        let map = self.dense_map(device, layer, input);
        let queue = &device.client;
        let bias = &layer.parameters.bias;
        let statistics = given_statistics(queue, &layer.running, bias, layer.epsilon);
        self.dense_features(queue, layer, &map, &statistics, None)
    }
}

/// The last block's output.
fn infer(
    blocks: &[BlockWithStatistics],
    device: &Device,
    mut map: Matrix,
    batch: usize,
    mut size: [usize; 2],
) -> Matrix {
    for BlockWithStatistics { block, running } in blocks {
        (map, size) = block.infer(device, map, batch, size, running);
    }
    map
}
