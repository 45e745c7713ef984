//! Batch norm followed by an optional sum and a non-linearity: the tail of every layer of a block.

use burn::nn::{BatchNorm, BatchNormConfig};
use burn::prelude::*;

use crate::activation::Activation;

/// Configuration of the batch norms of a block.
#[derive(Config, Debug)]
pub struct NormConfig {
    /// Added to the variance. Default: 1e-3.
    #[config(default = 1e-3)]
    pub epsilon: f64,
    /// Weight of the newest batch in the running statistics (1 minus Keras' momentum). Default: 0.01.
    #[config(default = 0.01)]
    pub momentum: f64,
}

impl NormConfig {
    /// Creates a batch norm over `channels` with scale 1, shift 0, running mean 0 and running variance 1.
    ///
    /// # Panics
    /// If `channels` is zero, epsilon is not positive, or the momentum is outside `[0, 1]`.
    pub fn init(&self, channels: usize, device: &Device) -> BatchNorm {
        BatchNormConfig::new(channels)
            .with_epsilon(self.epsilon)
            .with_momentum(self.momentum)
            .init(device)
    }
}

/// `activation(norm(input))`.
///
/// Batch statistics are used, and the running ones updated, where the input is on an autodiff device and the
/// norm is training; running statistics otherwise.
///
/// # Shapes
/// - input, output: `[batch, channels, ..]`
pub fn norm_activate<const D: usize>(
    norm: &BatchNorm,
    activation: Activation,
    input: Tensor<D>,
) -> Tensor<D> {
    activation.forward(norm.forward(input))
}

/// `activation(norm(input) + residual)`, the end of a residual block.
///
/// # Shapes
/// - input, residual, output: `[batch, channels, height, width]`
pub fn norm_add_activate(
    norm: &BatchNorm,
    activation: Activation,
    input: Tensor<4>,
    residual: Tensor<4>,
) -> Tensor<4> {
    activation.forward(norm.forward(input) + residual)
}

/// Moves the running statistics towards a batch's, as Burn's batch norm does.
///
/// # Shapes
/// - mean, variance (of all values, not of all but one): `[channels]`
pub(crate) fn update_running(norm: &BatchNorm, mean: &Tensor<1>, variance: &Tensor<1>) {
    let device = mean.device();
    for (running, batch) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        let old = running
            .value_sync()
            .to_device(&device)
            .mul_scalar(1.0 - norm.momentum);
        let new = batch.clone().detach().mul_scalar(norm.momentum);
        running.update(old.add(new).detach());
    }
}
