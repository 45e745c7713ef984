//! What latents are drawn from to make new images: the model's own prior, or a mixture fitted to its posteriors.

mod error;
mod latent_prior;
mod mixture_file;
mod mixture_prior;

pub use error::PriorError;
pub use latent_prior::{LatentDraw, LatentPrior};
pub(crate) use mixture_file::LARGEST_PRIOR;
pub(crate) use mixture_prior::LEAST_KL;
pub use mixture_prior::{MixtureOptions, MixturePrior};

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use burn::prelude::*;
    use vae_core::Sampler;
    use vae_measures::GaussianMixture;

    use super::*;
    use crate::experiment::random::{Purpose, Stream};

    fn prior() -> MixturePrior {
        MixturePrior {
            latent_dim: 3,
            dimensions: vec![0, 2],
            mixture: GaussianMixture {
                dimensions: 2,
                weights: vec![1.0],
                means: vec![10.0, -20.0],
                factors: vec![1.0, 0.0, 0.0, 1.0],
            },
            weights_sha256: "abc".to_owned(),
            is_of_posts_draws: false,
        }
    }

    fn stream() -> Stream {
        Stream::new(1, Purpose::Samples, 0)
    }

    #[test]
    fn used_dimensions_follow_the_mixture_and_the_others_stay_normal() {
        let plain = LatentPrior::StandardNormal.draw(&mut stream(), 2, 3, 1.0);
        assert_eq!(plain, stream().standard_normal(6));
        let mixed = LatentPrior::Mixture(prior()).draw(&mut stream(), 2, 3, 1.0);
        for (plain, mixed) in plain.chunks(3).zip(mixed.chunks(3)) {
            assert!((mixed[0] - plain[0] - 10.0).abs() < 1e-5);
            assert_eq!(mixed[1], plain[1]);
            assert!((mixed[2] - plain[2] + 20.0).abs() < 1e-5);
        }
    }

    #[test]
    fn temperature_0_is_the_mean() {
        assert_eq!(
            LatentPrior::StandardNormal.draw(&mut stream(), 1, 3, 0.0),
            [0.0; 3]
        );
        let mixed = LatentPrior::Mixture(prior()).draw(&mut stream(), 1, 3, 0.0);
        assert_eq!(mixed, [10.0, 0.0, -20.0]);
    }

    #[test]
    fn a_prior_survives_its_file_and_another_models_is_refused() {
        let path = MixturePrior::path(Path::new("runs/a"), 10);
        assert_eq!(path, Path::new("runs/a/prior-mixture-10.json"));
        let bytes = prior().to_json();
        assert_eq!(
            MixturePrior::from_json(&path, &bytes, 3).expect("read"),
            prior()
        );
        // Sizes whose product no number holds, and a mean that is none in float32.
        let text = String::from_utf8(bytes.clone()).expect("text");
        let huge = text.replace("\"dimensions\":2,", "\"dimensions\":9223372036854775807,");
        let far = text.replace("10.0", "1e300");
        assert!(huge != text && far != text);
        for (bytes, latent_dim) in [
            (&bytes[..], 4),
            (&bytes[1..], 3),
            (b"{}", 3),
            (huge.as_bytes(), 3),
            (far.as_bytes(), 3),
        ] {
            let error = MixturePrior::from_json(&path, bytes, latent_dim).expect_err("refused");
            assert!(error.to_string().contains("delete it"), "{error}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_mixture_is_fitted_to_what_the_sampler_draws() {
        use crate::experiment::model::{initial_model, with_posterior};
        use vae_core::{Depth, VaeConfig};

        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(3);
        let device = Device::flex();
        let log_variances = [-2.0, -1.0, 0.5];
        let model = initial_model(&config.into(), 2, &device);
        let model = with_posterior(model, &[0.5, -1.0, 0.0], &log_variances);
        let view = cifar_loader::Cifar10::sample().expect("embedded").train();
        let view = view.first(200);
        let fitted = |sampler| {
            let options = MixtureOptions {
                components: 1,
                sampler,
                batch_size: NonZeroUsize::new(50).expect("not zero"),
                seed: 1,
            };
            MixturePrior::fit(&model, &view, options, &device).expect("enough images")
        };
        let (correct, blog) = (fitted(Sampler::Correct), fitted(Sampler::Blog));
        // The first column of a factor of one dimension's draws alone is its deviation: exp(v / 2), or exp(v).
        for (dimension, log_variance) in log_variances.into_iter().enumerate() {
            let deviation = |prior: &MixturePrior| prior.mixture.factors[4 * dimension];
            let ratio = deviation(&blog) / deviation(&correct);
            let expected = f64::from(0.5 * log_variance).exp();
            assert!((ratio / expected - 1.0).abs() < 1e-3, "{ratio} {expected}");
            // 200 draws tell a deviation to a twentieth.
            assert!((deviation(&correct) / expected - 1.0).abs() < 0.2);
        }
        assert!(!correct.is_of_posts_draws && blog.is_of_posts_draws);
        let json = String::from_utf8(correct.to_json()).expect("text");
        assert!(!json.contains("posts_draws"), "files stay as they were");
    }
}
