//! Gaussians with independent dimensions: the posterior q(z given x).

use burn::prelude::*;

/// How a draw is made from a posterior.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// Standard deviation `exp(log_variance / 2)`: the distribution whose KL divergence enters the loss.
    Correct,
    /// Standard deviation `exp(log_variance)`, as the 2018 blog post drew. Its loss is no bound on the likelihood,
    /// because the KL divergence is that of another distribution; use it only to reproduce the post's table.
    Blog,
}

/// A Gaussian with independent dimensions.
///
/// Kept as log-variance, so that the variance is positive by construction.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// `[batch, latent_dim]`
    pub mean: Tensor<2>,
    /// Natural logarithm of the variance; `[batch, latent_dim]`
    pub log_variance: Tensor<2>,
}

impl DiagonalGaussian {
    /// Draws `mean + exp(log_variance / 2) * noise` (Kingma and Welling 2014, section 2.4).
    ///
    /// `noise` is standard normal and comes from the caller, so that a test can fix it and a run can be repeated.
    ///
    /// # Shapes
    /// - noise, output: `[batch, latent_dim]`
    pub fn reparameterize(&self, noise: Tensor<2>) -> Tensor<2> {
        self.draw(Sampler::Correct, noise)
    }

    /// Draws with the chosen sampler; [`reparameterize`](Self::reparameterize) is the correct one.
    ///
    /// # Shapes
    /// - noise, output: `[batch, latent_dim]`
    pub fn draw(&self, sampler: Sampler, noise: Tensor<2>) -> Tensor<2> {
        let log_deviation = match sampler {
            Sampler::Correct => self.log_variance.clone().mul_scalar(0.5),
            Sampler::Blog => self.log_variance.clone(),
        };
        self.mean.clone() + log_deviation.exp() * noise
    }

    /// The Gaussian that a sampler truly draws from, whose [`reparameterize`](Self::reparameterize) makes the same draws.
    pub fn drawn_by(&self, sampler: Sampler) -> Self {
        let log_variance = self.log_variance.clone();
        Self {
            mean: self.mean.clone(),
            log_variance: match sampler {
                Sampler::Correct => log_variance,
                Sampler::Blog => log_variance.mul_scalar(2.0),
            },
        }
    }

    /// log p(z) - log q(z given x) of the draw that `noise` made, in nats per image, with p the standard normal and q what
    /// the sampler truly draws from.
    ///
    /// ```text
    /// sum over dimensions of (noise^2 + log variance of q - z^2) / 2
    /// ```
    ///
    /// Added to log p(x given z) it is the logarithm of an importance weight, whose mean of exponentials over draws bounds
    /// p(x) from below in expectation (Burda et al. 2016).
    ///
    /// # Shapes
    /// - latent, noise: `[batch, latent_dim]`; the latent is [`draw`](Self::draw)'s
    /// - output: `[batch]`
    pub fn log_prior_ratio(
        &self,
        sampler: Sampler,
        latent: Tensor<2>,
        noise: Tensor<2>,
    ) -> Tensor<1> {
        let log_variance = self.drawn_by(sampler).log_variance;
        // (noise - z)(noise + z): where the posterior is the prior, nothing is left of either square.
        let squares = (noise.clone() - latent.clone()) * (noise + latent);
        (squares + log_variance)
            .sum_dim(1)
            .squeeze_dim::<1>(1)
            .mul_scalar(0.5)
    }

    /// KL divergence to the standard normal of each dimension, in nats.
    ///
    /// # Shapes
    /// - output: `[batch, latent_dim]`
    pub fn kl_per_dimension(&self) -> Tensor<2> {
        let log_variance = self.log_variance.clone();
        let variance = log_variance.clone().exp();
        (self.mean.clone().square() + (variance.sub_scalar(1.0) - log_variance)).mul_scalar(0.5)
    }

    /// KL divergence to the standard normal, in nats per image.
    ///
    /// ```text
    /// KL = 0.5 * sum(mean^2 + exp(log_variance) - 1 - log_variance)
    /// ```
    ///
    /// # Shapes
    /// - output: `[batch]`
    pub fn kl_to_standard_normal(&self) -> Tensor<1> {
        let log_variance = self.log_variance.clone();
        let variance = log_variance.clone().exp();
        let divergence = self.mean.clone().square() + (variance.sub_scalar(1.0) - log_variance);
        divergence.sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn gaussian(mean: &[f32], log_variance: &[f32], device: &Device) -> DiagonalGaussian {
        let tensor =
            |values: &[f32]| Tensor::<1>::from_floats(values, device).reshape([1, values.len()]);
        DiagonalGaussian {
            mean: tensor(mean),
            log_variance: tensor(log_variance),
        }
    }

    #[test]
    fn kl_is_zero_for_the_standard_normal() {
        let standard = gaussian(&[0.0; 5], &[0.0; 5], &Device::flex());
        assert_eq!(standard.kl_to_standard_normal().into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn zero_noise_gives_the_mean() {
        let posterior = gaussian(&[1.5, -2.0], &[3.0, -4.0], &Device::flex());
        let latent = posterior.reparameterize(Tensor::zeros([1, 2], &Device::flex()));
        assert_eq!(
            latent.into_data().try_to_vec::<f32>().expect("float32"),
            [1.5, -2.0]
        );
    }

    #[test]
    fn the_gradient_of_kl_is_the_mean_and_half_the_excess_variance() {
        let device = Device::flex().autodiff();
        let mut posterior = gaussian(&[1.5, -2.0], &[0.7, -0.3], &device);
        posterior.mean = posterior.mean.require_grad();
        posterior.log_variance = posterior.log_variance.require_grad();
        let gradients = posterior.kl_to_standard_normal().backward();
        let read = |tensor: &Tensor<2>| {
            let gradient = tensor.grad(&gradients).expect("a gradient");
            gradient.into_data().try_to_vec::<f32>().expect("float32")
        };
        assert_eq!(read(&posterior.mean), [1.5, -2.0]);
        for (found, value) in read(&posterior.log_variance)
            .into_iter()
            .zip([0.7f32, -0.3])
        {
            assert!(
                (found - 0.5 * (value.exp() - 1.0)).abs() < 1e-6,
                "{found} at {value}"
            );
        }
    }

    #[test]
    fn what_a_sampler_draws_from_has_its_draws_and_its_divergence() {
        let posterior = gaussian(&[0.5, -1.0, 0.0], &[-2.0, -1.0, 0.5], &Device::flex());
        let noise = || Tensor::from_floats([[0.3, -1.2, 2.0]], &Device::flex());
        let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().expect("float32");
        for (sampler, twice) in [(Sampler::Correct, 1.0), (Sampler::Blog, 2.0)] {
            let drawn = posterior.drawn_by(sampler);
            assert_eq!(
                values(drawn.reparameterize(noise())),
                values(posterior.draw(sampler, noise()))
            );
            let expected: f64 = [(0.5f64, -2.0f64), (-1.0, -1.0), (0.0, 0.5)]
                .iter()
                .map(|(m, v)| 0.5 * ((twice * v).exp() + m * m - 1.0 - twice * v))
                .sum();
            let found = f64::from(drawn.kl_to_standard_normal().into_scalar::<f32>());
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn kl_agrees_with_float64_and_is_never_negative(
            values in prop::collection::vec((-6.0f32..6.0, -8.0f32..6.0), 1..20)
        ) {
            let (mean, log_variance): (Vec<_>, Vec<_>) = values.into_iter().unzip();
            let found = gaussian(&mean, &log_variance, &Device::flex()).kl_to_standard_normal().into_scalar::<f32>() as f64;
            let expected: f64 = mean.iter().zip(&log_variance)
                .map(|(m, v)| 0.5 * ((*m as f64).powi(2) + (*v as f64).exp() - 1.0 - *v as f64)).sum();
            prop_assert!(found >= 0.0);
            prop_assert!((found - expected).abs() <= 1e-5f64.max(5e-5 * expected), "{} against {}", found, expected);
        }
    }

    /// The KL divergence of the distribution that `draw` really samples, estimated from its draws alone: their
    /// logarithmic density under that normal distribution (its moments estimated from the draws too) minus their
    /// logarithmic density under the standard normal.
    fn monte_carlo_kl(posterior: &DiagonalGaussian, sampler: Sampler) -> f64 {
        const DRAWS: usize = 200_000;
        let [_, dims] = posterior.mean.dims();
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = || (generator.next_u32() as f64 + 0.5) / 4_294_967_296.0;
        let noise: Vec<f32> = (0..DRAWS * dims)
            .map(|_| {
                ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32
            })
            .collect();
        let noise = Tensor::<2>::from_data(
            TensorData::new(noise, [DRAWS, dims]),
            &posterior.mean.device(),
        );
        let repeated = DiagonalGaussian {
            mean: posterior.mean.clone().repeat_dim(0, DRAWS),
            log_variance: posterior.log_variance.clone().repeat_dim(0, DRAWS),
        };
        let draws = repeated
            .draw(sampler, noise)
            .into_data()
            .try_to_vec::<f32>()
            .expect("float32");
        (0..dims)
            .map(|dim| {
                let column = || {
                    draws
                        .iter()
                        .skip(dim)
                        .step_by(dims)
                        .map(|draw| *draw as f64)
                };
                let mean = column().sum::<f64>() / DRAWS as f64;
                let variance =
                    column().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64;
                let log_ratio = |draw: f64| {
                    0.5 * (draw * draw - (draw - mean).powi(2) / variance - variance.ln())
                };
                column().map(log_ratio).sum::<f64>() / DRAWS as f64
            })
            .sum()
    }

    #[test]
    fn the_closed_form_is_the_kl_of_the_correct_sampler_and_not_of_the_posts() {
        let posterior = gaussian(&[0.5, -1.0, 0.0], &[-2.0, -1.0, 0.5], &Device::flex());
        let closed_form = posterior.kl_to_standard_normal().into_scalar::<f32>() as f64;
        let correct = monte_carlo_kl(&posterior, Sampler::Correct);
        assert!(
            (correct - closed_form).abs() < 0.02,
            "{correct} against {closed_form}"
        );
        // Of a deviation exp(v) the divergence is 0.5 * (exp(2v) + mean^2 - 1 - 2v) a dimension.
        let true_blog: f64 = [(0.5f64, -2.0f64), (-1.0, -1.0), (0.0, 0.5)]
            .iter()
            .map(|(m, v)| 0.5 * ((2.0 * v).exp() + m * m - 1.0 - 2.0 * v))
            .sum();
        let blog = monte_carlo_kl(&posterior, Sampler::Blog);
        assert!(
            (blog - true_blog).abs() < 0.02,
            "{blog} against {true_blog}"
        );
        assert!(
            blog - closed_form > 0.5,
            "the post's loss understates it: {blog} against {closed_form}"
        );
    }
}
