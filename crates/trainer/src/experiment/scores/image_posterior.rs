//! The posterior of one image in float64: what a bound needs of it on the host, where a GPU draws.

use vae_core::Sampler;

/// Mean and log-variance of one image's posterior, by dimension.
#[cfg_attr(not(feature = "cube"), allow(dead_code))] // Processors draw with tensors.
pub(crate) struct ImagePosterior<'a> {
    pub(crate) mean: &'a [f32],
    pub(crate) log_variance: &'a [f32],
    pub(crate) sampler: Sampler,
}

#[cfg_attr(not(feature = "cube"), allow(dead_code))]
impl ImagePosterior<'_> {
    /// Mean and logarithm of the standard deviation that is drawn with, by dimension.
    fn dimensions(&self) -> impl Iterator<Item = (f64, f64)> {
        let half = match self.sampler {
            Sampler::Correct => 0.5,
            Sampler::Blog => 1.0,
        };
        let dimensions = self.mean.iter().zip(self.log_variance);
        dimensions.map(move |(mean, v)| (f64::from(*mean), half * f64::from(*v)))
    }

    /// The KL divergence of what is drawn from to the standard normal, in nats.
    pub(crate) fn kl(&self) -> f64 {
        let terms = self.dimensions().map(|(mean, log_deviation)| {
            let twice = 2.0 * log_deviation;
            0.5 * (mean * mean + (twice.exp_m1() - twice))
        });
        terms.sum()
    }

    /// log p(z) - log q(z given x) of the draw that `noise` makes, in nats.
    pub(crate) fn log_prior_ratio(&self, noise: &[f32]) -> f64 {
        let dimensions = self.dimensions().zip(noise);
        let terms = dimensions.map(|((mean, log_deviation), noise)| {
            let noise = f64::from(*noise);
            let z = mean + log_deviation.exp() * noise;
            0.5 * (noise - z) * (noise + z) + log_deviation
        });
        terms.sum()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::prelude::*;
    use burn::tensor::DType;
    use vae_core::DiagonalGaussian;

    #[test]
    fn both_terms_are_those_of_the_tensors_in_float64() {
        let mean = [0.5f32, -1.25, 0.0, 2.0];
        let log_variance = [-3.0f32, 0.75, 0.0, -0.5];
        let noise = [1.5f32, -0.25, 2.0, -1.0];
        let device = Device::flex();
        let tensor = |values: [f32; 4]| {
            let data = TensorData::new(values.map(f64::from).to_vec(), [1, 4]);
            Tensor::<2>::from_data(data, (&device, DType::F64))
        };
        let value = |tensor: Tensor<1>| {
            let values = tensor.into_data().try_to_vec::<f64>();
            values.expect("float64")[0]
        };
        let gaussian = DiagonalGaussian {
            mean: tensor(mean),
            log_variance: tensor(log_variance),
        };
        let mut all = Vec::new();
        for sampler in [Sampler::Correct, Sampler::Blog] {
            let found = ImagePosterior {
                mean: &mean,
                log_variance: &log_variance,
                sampler,
            };
            let drawn = gaussian.draw(sampler, tensor(noise));
            let ratio = gaussian.log_prior_ratio(sampler, drawn, tensor(noise));
            let kl = gaussian.drawn_by(sampler).kl_to_standard_normal();
            for (found, expected) in [
                (found.log_prior_ratio(&noise), value(ratio)),
                (found.kl(), value(kl)),
            ] {
                assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
                all.push(found);
            }
        }
        assert!(
            (all[0] - all[2]).abs() > 0.1 && (all[1] - all[3]).abs() > 0.1,
            "{all:?}"
        );
    }
}
