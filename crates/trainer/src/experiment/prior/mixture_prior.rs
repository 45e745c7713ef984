//! A mixture fitted to a model's posteriors.

use std::num::NonZeroUsize;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use serde::{Deserialize, Serialize};
use vae_core::Sampler;
use vae_measures::{GaussianMixture, MixtureFit};

use super::error::PriorError;
use crate::experiment::model::Model;
use crate::experiment::random::{Purpose, Stream};

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

/// Mean KL divergence of a dimension, in nats, below which its posteriors are the prior and nothing is to fit.
pub(crate) const LEAST_KL: f64 = 0.01;

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
}

fn wide(tensor: Tensor<2>) -> Vec<f64> {
    let data = tensor.into_data().convert_dtype(DType::F64);
    data.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}
