//! Forward with the running statistics, and the terms of the loss.

use resnet_blocks::cube::{Device, Matrix, Storage, given_statistics};

use super::{Batch, BlockWithStatistics, DenseNorm, Network, product, viewed};

impl Network {
    /// Writes each image's terms of the loss: what [`forward_backward`](Self::forward_backward) writes of them, with the running statistics.
    pub(crate) fn evaluate(&self, device: &Device, batch: &Batch, share: f32) {
        let queue = &device.client;
        let input = batch.input.clone();
        let map = infer(&self.encoder, device, input, batch.len, batch.size);
        let features = self.dense_inferred(device, &self.dense, &map);
        drop(map);
        let features = viewed(&features, batch.len);
        let mean = product(device, &features, &self.mean.weight, Storage::F32);
        let log_variance = product(device, &features, &self.log_variance.weight, Storage::F32);
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        self.draw(queue, batch, &mean, &log_variance, &z, share);
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
