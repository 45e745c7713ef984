//! The KL divergence's term in what is minimised: weighted, and with free bits.

use std::sync::Arc;

use burn::prelude::*;
use burn::tensor::DType;
use vae_core::DiagonalGaussian;
use vae_measures::{free_bits, free_bits_gradient};

/// How the KL divergence enters what a step minimises. Scores do not know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct KlObjective {
    /// Its factor.
    pub(crate) weight: f64,
    /// Nats of each dimension that cost nothing, as a mean over the whole batch.
    pub(crate) free_bits: Option<f64>,
}

/// Factors of the KL divergence of each dimension whose sum has the objective's gradient.
#[derive(Clone, Debug)]
pub(crate) enum KlWeights {
    /// The loss itself.
    One,
    /// The same for all dimensions.
    Same(f64),
    /// One for each dimension.
    PerDimension(Arc<Vec<f32>>),
}

impl KlObjective {
    /// The loss itself.
    pub(crate) const LOSS: Self = Self {
        weight: 1.0,
        free_bits: None,
    };

    /// The factors; `means` are each dimension's KL divergence over the whole batch, needed with free bits only.
    ///
    /// The mean of the whole batch decides whether a dimension costs anything, also where the batch is computed in shards.
    pub(crate) fn weights(self, means: Option<&[f64]>) -> KlWeights {
        match (self.free_bits, means) {
            (Some(free), Some(means)) => {
                let slopes = free_bits_gradient(means, free).into_iter();
                let weights = slopes.map(|slope| (self.weight * slope) as f32).collect();
                KlWeights::PerDimension(Arc::new(weights))
            }
            _ if self.weight == 1.0 => KlWeights::One,
            _ => KlWeights::Same(self.weight),
        }
    }

    /// The term itself in nats an image, where `kl` is the batch's mean and `means` that of each dimension.
    pub(crate) fn value(self, kl: f64, means: Option<&[f64]>) -> f64 {
        match (self.free_bits, means) {
            (Some(free), Some(means)) => self.weight * free_bits(means, free),
            _ => self.weight * kl,
        }
    }
}

impl KlWeights {
    /// The weighted divergence of each image, of which `kl` is the plain one; `[batch]`
    pub(crate) fn of(&self, posterior: &DiagonalGaussian, kl: Tensor<1>) -> Tensor<1> {
        match self {
            Self::One => kl,
            Self::Same(weight) => kl.mul_scalar(*weight),
            Self::PerDimension(weights) => {
                let weights = TensorData::new(weights.to_vec(), [1, weights.len()]);
                let weights = Tensor::<2>::from_data(weights, &kl.device());
                let weighted = posterior.kl_per_dimension() * weights;
                weighted.sum_dim(1).squeeze_dim::<1>(1)
            }
        }
    }
}

/// Each dimension's KL divergence, summed over a batch's images.
pub(crate) fn kl_sums(posterior: &DiagonalGaussian) -> Vec<f64> {
    let sums = posterior.kl_per_dimension().sum_dim(0).into_data();
    let sums = sums.convert_dtype(DType::F64);
    sums.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn posterior(device: &Device) -> DiagonalGaussian {
        DiagonalGaussian {
            mean: Tensor::from_floats([[0.1, 2.0, -1.0], [0.3, 1.0, 0.5]], device).require_grad(),
            log_variance: Tensor::from_floats([[0.0, -1.0, 0.2], [0.1, -2.0, 0.0]], device)
                .require_grad(),
        }
    }

    #[test]
    fn the_weighted_sums_gradient_is_that_of_the_maximum() {
        let device = Device::flex().autodiff();
        let objective = KlObjective {
            weight: 0.5,
            free_bits: Some(0.3),
        };
        let found = posterior(&device);
        let means: Vec<f64> = kl_sums(&found).iter().map(|sum| sum / 2.0).collect();
        // Below and above the free nats.
        assert!(means[0] < 0.3 && means[1] > 0.3, "{means:?}");
        let kl = found.kl_to_standard_normal();
        let weighted = objective.weights(Some(&means)).of(&found, kl).mean();
        let gradients = weighted.backward();
        let expected = posterior(&device);
        let maximum = expected
            .kl_per_dimension()
            .mean_dim(0)
            .clamp_min(0.3)
            .sum()
            .mul_scalar(0.5);
        let value: f32 = maximum.clone().into_scalar();
        assert!((objective.value(f64::NAN, Some(&means)) - f64::from(value)).abs() < 1e-6);
        let of_maximum = maximum.backward();
        for (found, expected) in [
            (found.mean.grad(&gradients), expected.mean.grad(&of_maximum)),
            (
                found.log_variance.grad(&gradients),
                expected.log_variance.grad(&of_maximum),
            ),
        ] {
            let read = |gradient: Option<Tensor<2>>| {
                gradient
                    .expect("a gradient")
                    .into_data()
                    .try_to_vec::<f32>()
                    .expect("float32")
            };
            for (found, expected) in read(found).iter().zip(read(expected)) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn without_free_bits_the_weight_is_all() {
        let device = Device::flex().autodiff();
        let posterior = posterior(&device);
        let kl = posterior.kl_to_standard_normal();
        let half = KlObjective {
            weight: 0.5,
            free_bits: None,
        };
        let found = half.weights(None).of(&posterior, kl.clone());
        assert_eq!(found.into_data(), kl.clone().mul_scalar(0.5).into_data());
        assert!(matches!(KlObjective::LOSS.weights(None), KlWeights::One));
        assert_eq!(half.value(8.0, None), 4.0);
    }
}
