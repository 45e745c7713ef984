//! Batch norm followed by an optional sum and a non-linearity: the tail of every layer of a block.
//!
//! The running variance estimates that of the population, as in PyTorch and Keras: a batch's variance over `n` values goes
//! into it times `n / (n - 1)`. Burn's own batch norm leaves that factor out.

use burn::nn::{BatchNorm, BatchNormConfig};
use burn::prelude::*;
use burn::tensor::module::batch_norm_train;

use crate::activation::Activation;
use crate::shared_batch::SharedBatch;

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
    activation.forward(normalize(norm, input))
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
    activation.forward(normalize(norm, input) + residual)
}

/// `norm(input)`: with the batch's statistics, which the running ones move towards, where the input is on an autodiff device and
/// the norm is training; with the running statistics otherwise. Within [`SharedBatch::run`] the batch is the whole one.
///
/// # Shapes
/// - input, output: `[batch, channels, ..]`
pub fn normalize<const D: usize>(norm: &BatchNorm, input: Tensor<D>) -> Tensor<D> {
    if !(input.device().is_autodiff() && norm.training.is_enabled()) {
        return norm.forward(input);
    }
    if let Some(batch) = SharedBatch::present() {
        return normalize_part(norm, input, &batch);
    }
    let [channels] = norm.gamma.shape().dims();
    let count = input.shape().num_elements() / channels;
    let (gamma, beta) = (norm.gamma.val(), norm.beta.val());
    let result = batch_norm_train(input, gamma, beta, norm.epsilon);
    update_running(norm, &result.mean, &result.variance, count);
    result.output
}

/// The norm of a shard of a batch with the statistics of all of it.
///
/// # Panics
/// On another backend than flex.
fn normalize_part<const D: usize>(
    norm: &BatchNorm,
    input: Tensor<D>,
    batch: &SharedBatch,
) -> Tensor<D> {
    let shape = input.shape();
    let (rows, channels) = (shape[0], shape[1]);
    let positions = shape.num_elements() / (rows * channels);
    let count = batch.positions(rows * positions);
    let mean_of_all = |values: Tensor<3>| {
        let own = values.sum_dim(2).sum_dim(0).reshape([channels]);
        sum_over_parts(own, batch).div_scalar(count as f64)
    };
    let along_channels = |vector: Tensor<1>| vector.reshape([1, channels, 1]);
    let values = input.reshape([rows, channels, positions]);
    let mean = mean_of_all(values.clone());
    let centred = values - along_channels(mean.clone());
    let variance = mean_of_all(centred.clone() * centred.clone());
    update_running(norm, &mean, &variance, count);
    let deviation = variance.add_scalar(norm.epsilon).sqrt();
    let scale = along_channels(norm.gamma.val() / deviation);
    (centred * scale + along_channels(norm.beta.val())).reshape(shape)
}

#[cfg(any(feature = "flex", feature = "cube"))]
fn sum_over_parts(vector: Tensor<1>, batch: &SharedBatch) -> Tensor<1> {
    use crate::operation::BlockOps;
    let vector = vector.into_dispatch();
    let sum = burn::backend::Dispatch::sum_over_parts(vector, batch.clone(), false);
    Tensor::from_dispatch(sum)
}

#[cfg(not(any(feature = "flex", feature = "cube")))]
fn sum_over_parts(_: Tensor<1>, _: &SharedBatch) -> Tensor<1> {
    panic!("a batch is shared on flex alone: see `SharedBatch::is_known`")
}

/// Moves the running statistics towards a batch's, of so many values a channel.
///
/// # Shapes
/// - mean, variance (the mean square of `count` values about their mean): `[channels]`
pub(crate) fn update_running(
    norm: &BatchNorm,
    mean: &Tensor<1>,
    variance: &Tensor<1>,
    count: usize,
) {
    let device = mean.device();
    let of_population = variance_factor(count);
    for (running, batch, factor) in [
        (&norm.running_mean, mean, 1.0),
        (&norm.running_var, variance, of_population),
    ] {
        let held = running.value_sync();
        let is_plain = !held.device().is_autodiff();
        let old = held.to_device(&device).mul_scalar(1.0 - norm.momentum);
        let new = batch.clone().detach().mul_scalar(norm.momentum * factor);
        let new = old.add(new).detach();
        // Statistics of a model on a plain device stay there, so that plain inputs find them.
        running.update(if is_plain { new.inner() } else { new });
    }
}

/// What makes the mean square of `count` values about their mean an unbiased estimate of the variance: `count / (count - 1)`.
///
/// A single value has no variance to estimate; its factor is 1.
pub fn variance_factor(count: usize) -> f64 {
    if count > 1 {
        count as f64 / (count - 1) as f64
    } else {
        1.0
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Module;

    /// Two images of two pixels with values 1, 3, 5 and 11: mean 5, sum of squares about it 56.
    fn statistics_after(input: Tensor<4>) -> [f32; 2] {
        let device = input.device();
        let norm = NormConfig::new().with_momentum(0.25).init(1, &device);
        normalize(&norm, input);
        let norm = norm.valid();
        [norm.running_mean, norm.running_var].map(|state| state.value().into_scalar::<f32>())
    }

    #[test]
    fn the_running_variance_is_that_of_pytorch_and_keras() {
        let device = Device::flex().autodiff();
        let values = [[[[1.0, 3.0]]], [[[5.0, 11.0]]]];
        let [mean, variance] = statistics_after(Tensor::<4>::from_floats(values, &device));
        // torch.nn.BatchNorm2d(1, momentum=0.25): 0.75 * 1 + 0.25 * 56 / 3.
        assert_eq!(mean, 1.25);
        assert!(
            (variance - (0.75 + 0.25 * 56.0 / 3.0)).abs() < 1e-6,
            "{variance}"
        );
    }

    #[test]
    fn a_norm_on_a_plain_device_trains_and_is_used_there() {
        let device = Device::flex();
        let norm = NormConfig::new().with_momentum(1.0).init(1, &device);
        let values = [[[[1.0, 3.0]]], [[[5.0, 11.0]]]];
        for _ in 0..2 {
            normalize(
                &norm,
                Tensor::<4>::from_floats(values, &device.clone().autodiff()),
            );
        }
        // Of the first update: Burn applies one with the next.
        let output = normalize(&norm, Tensor::<4>::from_floats([[[[5.0]]]], &device));
        let output = output.into_scalar::<f32>();
        assert_eq!(output, 0.0, "the batch's mean is 5");
    }

    /// Mean and variance after batches of these shapes, the numbers of `tests/golden/running_statistics.py` in them.
    fn after_batches<const D: usize>(channels: usize, shapes: [[usize; D]; 3]) -> [Vec<f32>; 2] {
        let device = Device::flex().autodiff();
        let norm = NormConfig::new()
            .with_momentum(0.25)
            .init(channels, &device);
        for (start, shape) in shapes.into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count)
                .map(|index| (((index * 7 + start) % 11) as f32 - 5.0) / 4.0)
                .collect();
            let batch = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
            normalize(&norm, batch);
        }
        let norm = norm.valid();
        [norm.running_mean, norm.running_var].map(|state| {
            let data = state.value().into_data();
            data.try_to_vec::<f32>().expect("float32")
        })
    }

    #[test]
    fn running_statistics_are_pytorchs() {
        let found = [
            after_batches(3, [[5, 3], [4, 3], [2, 3]]),
            after_batches(2, [[3, 2, 2, 2], [2, 2, 1, 3], [2, 2, 1, 1]]),
        ];
        // PyTorch 2.5.1 in float64, by tests/golden/running_statistics.py.
        let expected: [[&[f64]; 2]; 2] = [
            [
                &[-0.15546875, 0.2890625, -0.21171875],
                &[0.88798828125, 0.47119140625, 0.5872070312500001],
            ],
            [
                &[-0.115234375, -0.0185546875],
                &[0.7479580965909092, 1.1402920809659092],
            ],
        ];
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            for (found, expected) in found.iter().zip(*expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-6, "{found} and {expected}");
            }
        }
    }

    #[test]
    fn a_single_value_leaves_the_running_variance_finite() {
        let device = Device::flex().autodiff();
        let [mean, variance] = statistics_after(Tensor::<4>::from_floats([[[[2.0]]]], &device));
        assert_eq!([mean, variance], [0.5, 0.75]);
        assert_eq!(
            [0, 1, 2, 25].map(variance_factor),
            [1.0, 1.0, 2.0, 25.0 / 24.0]
        );
    }
}
