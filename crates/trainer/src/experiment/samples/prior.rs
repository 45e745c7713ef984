//! What latents are drawn from to make new images: the model's own prior, or a mixture fitted to its posteriors.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use serde::{Deserialize, Serialize};
use vae_core::Sampler;
use vae_measures::{GaussianMixture, MixtureError, MixtureFit};

use crate::experiment::model::Model;
use crate::experiment::random::{Purpose, Stream};

/// Where new images' latents come from.
#[derive(Clone, Debug, PartialEq)]
pub enum LatentPrior {
    /// The standard normal, which the model was trained with.
    StandardNormal,
    /// A mixture over the dimensions that are used.
    Mixture(MixturePrior),
}

/// A Gaussian mixture over the dimensions of the latent that are used; the others stay standard normal, as their posteriors are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixturePrior {
    /// Dimensions of the whole latent.
    pub latent_dim: usize,
    /// The mixture's dimensions among them, in order.
    pub dimensions: Vec<usize>,
    /// Over those dimensions.
    pub mixture: GaussianMixture,
    /// SHA-256 of the file of weights that it was fitted to: a run that goes on exports others.
    #[serde(default)]
    pub weights_sha256: String,
    /// Whether it was fitted to draws of the post's sampler.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_posts_draws: bool,
}

/// How a mixture is fitted to a model.
#[derive(Clone, Copy, Debug)]
pub struct MixtureOptions {
    /// Gaussians.
    pub components: usize,
    /// Of the run: how the posterior is drawn from.
    pub sampler: Sampler,
    /// Images encoded at a time.
    pub batch_size: NonZeroUsize,
    /// Of the run.
    pub seed: u64,
}

/// Images that a mixture is fitted to at most; more change it little and take longer.
const MOST_IMAGES: usize = 20_000;

/// A file of a mixture is read up to this size, in bytes: 1,000 components of 256 dimensions as text.
pub(crate) const LARGEST_PRIOR: u64 = 2 << 30;

/// Mean KL divergence of a dimension, in nats, below which its posteriors are the prior and nothing is to fit.
pub(crate) const LEAST_KL: f64 = 0.01;

/// Why there is no mixture prior.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriorError {
    /// No dimension is used: the prior is the posterior.
    #[error(
        "no dimension of the latent is used, so that a mixture has nothing to fit; sample with --prior normal"
    )]
    Collapsed,
    /// The posteriors' draws allow no such mixture.
    #[error(transparent)]
    Fit(#[from] MixtureError),
    /// A file that holds no mixture for this model.
    #[error("{} is no mixture prior of this model ({reason}): delete it, and it is fitted again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl MixturePrior {
    /// Fits a mixture to one draw from the posterior of each training image, by the sampler whose draws the decoder was trained with.
    ///
    /// # Errors
    /// Where no dimension is used or there are too few images.
    ///
    /// # Panics
    /// If the split is empty.
    pub fn fit(
        model: &Model,
        view: &View,
        options: MixtureOptions,
        device: &Device,
    ) -> Result<Self, PriorError> {
        let MixtureOptions {
            components,
            sampler,
            batch_size,
            seed,
        } = options;
        let device = device.clone().inner();
        let latent_dim = model.latent_dim();
        let plan = BatchPlan::evaluation(view.first(MOST_IMAGES), batch_size);
        let mut kl = vec![0.0; latent_dim];
        let mut draws: Vec<f64> = Vec::new();
        for index in 0..plan.num_batches() {
            let images = plan.batch(0, index).to_tensor(&device);
            let [batch, ..] = images.dims();
            let posterior = model.posterior(images).drawn_by(sampler);
            let sums = wide(posterior.kl_per_dimension().sum_dim(0));
            kl.iter_mut().zip(sums).for_each(|(kl, sum)| *kl += sum);
            let noise = Stream::new(seed, Purpose::InformationNoise, index as u64)
                .standard_normal(batch * latent_dim);
            let noise = Tensor::from_data(TensorData::new(noise, [batch, latent_dim]), &device);
            draws.extend(wide(posterior.reparameterize(noise)));
        }
        let images = (draws.len() / latent_dim) as f64;
        let dimensions: Vec<usize> = (0..latent_dim)
            .filter(|dimension| kl[*dimension] / images > LEAST_KL)
            .collect();
        if dimensions.is_empty() {
            return Err(PriorError::Collapsed);
        }
        let points: Vec<f64> = draws
            .chunks(latent_dim)
            .flat_map(|draw| dimensions.iter().map(|dimension| draw[*dimension]))
            .collect();
        let mut stream = Stream::new(seed, Purpose::InformationNoise, u64::MAX);
        let uniform = || f64::from(stream.uniform(1)[0]);
        let options = MixtureFit {
            components,
            iterations: 100,
            tolerance: 1e-4,
        };
        let mixture = GaussianMixture::fit(&points, dimensions.len(), options, uniform)?;
        Ok(Self {
            latent_dim,
            dimensions,
            mixture,
            weights_sha256: String::new(),
            is_of_posts_draws: sampler == Sampler::Blog,
        })
    }

    /// The file of a mixture of so many components, in the run folder.
    pub fn path(run_dir: &Path, components: usize) -> PathBuf {
        run_dir.join(format!("prior-mixture-{components}.json"))
    }

    /// Whether a file of that name in a run folder is one of these.
    pub(crate) fn is_file_name(name: &str) -> bool {
        name.strip_prefix("prior-mixture-")
            .and_then(|rest| rest.strip_suffix(".json"))
            .is_some_and(|components| components.parse::<u32>().is_ok())
    }

    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and lists serialise")
    }

    /// Reads what [`to_json`](Self::to_json) gave.
    ///
    /// # Errors
    /// [`PriorError::Malformed`] where the bytes are no mixture of a model with `latent_dim` dimensions.
    pub fn from_json(path: &Path, bytes: &[u8], latent_dim: usize) -> Result<Self, PriorError> {
        let refuse = |reason: String| PriorError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let prior: Self =
            serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        prior
            .mixture
            .validate()
            .map_err(|error| refuse(error.to_string()))?;
        let values = prior.mixture.means.iter().chain(&prior.mixture.factors);
        if values.into_iter().any(|value| !(*value as f32).is_finite()) {
            return Err(refuse("a value is too large".to_owned()));
        }
        let is_fitting = prior.latent_dim == latent_dim
            && prior.dimensions.len() == prior.mixture.dimensions
            && prior.dimensions.is_sorted_by(|a, b| a < b)
            && prior
                .dimensions
                .last()
                .is_none_or(|last| *last < latent_dim);
        if is_fitting {
            Ok(prior)
        } else {
            Err(refuse("its dimensions are others".to_owned()))
        }
    }
}

/// What the latents of a sheet are.
#[derive(Clone, Copy, Debug)]
pub struct LatentDraw<'a> {
    /// What they are drawn from.
    pub prior: &'a LatentPrior,
    /// Multiplies their noise.
    pub temperature: f64,
    /// Equal seeds and sheet numbers give equal latents.
    pub seed: u64,
    /// The sheet's number.
    pub sheet: u64,
}

impl LatentPrior {
    /// `count` latents one after the other, `[count, latent_dim]`: noise of the stream, its deviations multiplied by
    /// `temperature`.
    ///
    /// At temperature 1 the standard normal's are the stream's normal numbers themselves.
    pub fn draw(
        &self,
        stream: &mut Stream,
        count: usize,
        latent_dim: usize,
        temperature: f64,
    ) -> Vec<f32> {
        let mut latents = stream.standard_normal(count * latent_dim);
        if temperature != 1.0 {
            latents
                .iter_mut()
                .for_each(|value| *value = (f64::from(*value) * temperature) as f32);
        }
        if let Self::Mixture(prior) = self {
            let chosen = stream.uniform(count);
            for (latent, uniform) in latents.chunks_mut(latent_dim).zip(chosen) {
                let noise: Vec<f64> = prior
                    .dimensions
                    .iter()
                    .map(|dimension| f64::from(latent[*dimension]))
                    .collect();
                let drawn = prior.mixture.draw(f64::from(uniform), &noise);
                for (dimension, value) in prior.dimensions.iter().zip(drawn) {
                    latent[*dimension] = value as f32;
                }
            }
        }
        latents
    }
}

fn wide(tensor: Tensor<2>) -> Vec<f64> {
    let data = tensor.into_data().convert_dtype(DType::F64);
    data.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}

#[cfg(test)]
mod tests {
    use super::*;

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
