//! The importance-weighted bound on the log-likelihood of a split, in memory that does not grow with the draws.

use std::num::NonZeroUsize;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use vae_core::Sampler;
use vae_measures::{LogMeanExp, Mean};

use crate::experiment::batch_images::BatchImages;
use crate::experiment::model::Model;
use crate::experiment::random::{Purpose, Stream};
#[cfg(feature = "flex")]
use crate::experiment::scores::side_by_side::in_order;
use crate::experiment::split_images::{ImagePlace, SplitImages};

/// See [`draws_at_a_time`].
#[cfg(feature = "flex")]
const MOST_DRAWS_AT_A_TIME: usize = 4;

/// How a split is scored.
#[derive(Clone, Copy, Debug)]
pub struct ImportanceOptions {
    /// Draws an image.
    pub samples: NonZeroUsize,
    /// Latents decoded at a time.
    pub batch_size: NonZeroUsize,
    /// What latents are drawn from.
    pub sampler: Sampler,
    /// Of the run.
    pub seed: u64,
}

/// Bounds on the log-likelihood of a split: means over its images, in nats an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportanceBound {
    /// Draws an image.
    pub samples: usize,
    /// Images.
    pub images: u64,
    /// The evidence lower bound: the draws' mean log-likelihood minus the KL divergence in closed form.
    pub elbo: Estimate,
    /// The importance-weighted bound of the same draws.
    pub bound: Estimate,
}

/// A mean over images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Nats an image.
    pub nats: f64,
    /// Standard error over the images; none of a single one.
    pub standard_error: Option<f64>,
}

impl From<Mean> for Estimate {
    fn from(mean: Mean) -> Self {
        Self {
            nats: mean.mean(),
            standard_error: mean.standard_error(),
        }
    }
}

/// Scores every image of `view` with the same number of draws.
///
/// The noise of a draw depends on the image's position in the split and on the draw's number alone, so that the result does
/// not depend on how images and draws are divided into batches.
///
/// # Panics
/// If the split is empty.
pub fn importance_bound(
    model: &Model,
    view: &View,
    options: ImportanceOptions,
    device: &Device,
    each_image: impl FnMut(u64),
) -> ImportanceBound {
    let place = &device.clone().inner();
    importance_bound_by(view, options, device, each_image, |images, first, add| {
        draw_by_model(model, images.tensor(), (first, options), place, add)
    })
}

/// Takes in the negative log-likelihood of each image of a batch by one draw, and the log ratio of the prior's and the posterior's density there:
/// apart, so that their sum is in float64.
pub(crate) type EachDraw<'a> = dyn FnMut(&[f64], &[f64]) + 'a;

/// As [`importance_bound`], by whoever draws: `of_batch` gets a batch and the position of its first image, tells every draw in order, and gives each
/// image's KL divergence.
///
/// # Panics
/// If the split is empty.
pub(crate) fn importance_bound_by(
    view: &View,
    options: ImportanceOptions,
    device: &Device,
    mut each_image: impl FnMut(u64),
    mut of_batch: impl FnMut(BatchImages, u64, &mut EachDraw<'_>) -> Vec<f64>,
) -> ImportanceBound {
    assert!(!view.is_empty(), "a mean needs at least one image");
    let device = device.clone().inner();
    let images = SplitImages::new(view, &device, ImagePlace::of(&device));
    let plan = BatchPlan::evaluation(view.clone(), options.batch_size);
    let batches = images.epoch(&plan, 0);
    let (mut elbo, mut bound) = (Mean::new(), Mean::new());
    let mut first = 0;
    for index in 0..plan.num_batches() {
        let images = batches.batch(index);
        let batch = images.len();
        let mut weights = vec![LogMeanExp::new(); batch];
        let mut log_likelihoods = vec![0.0; batch];
        let kl = of_batch(images, first, &mut |nll, ratio| {
            for (image, (nll, ratio)) in nll.iter().zip(ratio).enumerate() {
                weights[image].add(ratio - nll);
                log_likelihoods[image] -= nll;
            }
        });
        for (image, kl) in kl.into_iter().enumerate() {
            elbo.add(log_likelihoods[image] / options.samples.get() as f64 - kl);
            bound.add(weights[image].value());
        }
        first += batch as u64;
        each_image(first);
    }
    ImportanceBound {
        samples: options.samples.get(),
        images: elbo.count(),
        elbo: elbo.into(),
        bound: bound.into(),
    }
}

/// By the model's operations.
fn draw_by_model(
    model: &Model,
    images: Tensor<4>,
    (first, options): (u64, ImportanceOptions),
    device: &Device,
    add: &mut EachDraw<'_>,
) -> Vec<f64> {
    let [batch, ..] = images.dims();
    let posterior = model.posterior(images.clone());
    let [_, latent_dim] = posterior.mean.dims();
    let kl = wide(posterior.drawn_by(options.sampler).kl_to_standard_normal());
    let draw = |sample: usize| {
        let noise = batch_noise(options.seed, (first, batch), sample, latent_dim);
        let noise = Tensor::<2>::from_data(TensorData::new(noise, [batch, latent_dim]), device);
        let latent = posterior.draw(options.sampler, noise.clone());
        let ratio = posterior.log_prior_ratio(options.sampler, latent.clone(), noise);
        let map = model.output_map(latent);
        let nll = model.nll(map, images.clone());
        (wide(nll), wide(ratio))
    };
    let add = |(nll, ratio): (Vec<f64>, Vec<f64>)| add(&nll, &ratio);
    let samples = options.samples.get();
    #[cfg(feature = "flex")]
    in_order(samples, draws_at_a_time(device), draw, add);
    #[cfg(not(feature = "flex"))]
    (0..samples).map(draw).for_each(add);
    kl
}

/// Draws that are decoded side by side, so that a draw which keeps one thread busy leaves none of the others idle. Each has
/// maps of its own, so that they are few. One on a GPU, whose work has one order.
#[cfg(feature = "flex")]
fn draws_at_a_time(device: &Device) -> usize {
    if matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_)) {
        return rayon::current_num_threads().min(MOST_DRAWS_AT_A_TIME);
    }
    1
}

/// Standard normal noise of one draw for so many images from the first one on.
pub(crate) fn batch_noise(
    seed: u64,
    (first, images): (u64, usize),
    sample: usize,
    latent_dim: usize,
) -> Vec<f32> {
    (first..first + images as u64)
        .flat_map(|image| noise(seed, image, sample, latent_dim))
        .collect()
}

/// Of one image.
fn noise(seed: u64, image: u64, sample: usize, latent_dim: usize) -> Vec<f32> {
    let index = image << 32 | sample as u64;
    Stream::new(seed, Purpose::ImportanceNoise, index).standard_normal(latent_dim)
}

fn wide(values: Tensor<1>) -> Vec<f64> {
    let data = values.into_data().convert_dtype(DType::F64);
    data.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::{initial_model, with_posterior};
    use crate::experiment::scores::evaluate::{EvaluationOptions, evaluate};
    use vae_core::{Depth, Likelihood, VaeConfig};

    fn model(likelihood: Likelihood) -> Model {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(5)
            .with_likelihood(likelihood);
        initial_model(&config.into(), 3, &Device::flex())
    }

    fn view(images: u32) -> View {
        let sample = cifar_loader::Cifar10::sample().expect("embedded");
        sample.test().first(images as usize)
    }

    fn options(samples: usize, batch_size: usize) -> ImportanceOptions {
        let size = |size| NonZeroUsize::new(size).expect("not zero");
        ImportanceOptions {
            samples: size(samples),
            batch_size: size(batch_size),
            sampler: Sampler::Correct,
            seed: 4,
        }
    }

    #[test]
    fn the_batch_size_changes_nothing_and_more_draws_bind_tighter() {
        let mixture = Likelihood::LogisticMixture { components: 3 };
        let (model, view, device) = (model(mixture), view(7), Device::flex());
        let found = |samples, batch_size| {
            importance_bound(&model, &view, options(samples, batch_size), &device, |_| {})
        };
        let whole = found(4, 7);
        for batch_size in [1, 2, 3, 100] {
            let in_batches = found(4, batch_size);
            // Float32 sums may be divided otherwise.
            assert!((in_batches.bound.nats - whole.bound.nats).abs() < 1e-3);
            assert!((in_batches.elbo.nats - whole.elbo.nats).abs() < 1e-3);
        }
        assert_eq!((whole.images, whole.samples), (7, 4));
        assert!(whole.bound.standard_error.is_some_and(|error| error > 0.0));
        // One draw's bound is its own log weight, whatever the number of the others.
        let one = found(1, 7);
        assert!(whole.bound.nats != one.bound.nats);
    }

    #[test]
    fn a_bernoulli_model_is_scored_as_renormalised_and_costs_more() {
        let (model, view, device) = (model(Likelihood::Bernoulli), view(4), Device::flex());
        let found = |model: &Model| {
            importance_bound(model, &view, options(2, 4), &device, |_| {})
                .elbo
                .nats
        };
        let mut rescored = model.clone();
        assert!(rescored.score_as(Likelihood::RenormalisedBernoulli));
        let (plain, renormalised) = (found(&model), found(&rescored));
        // Z of 256 levels is above that of two.
        assert!(renormalised < plain - 3072.0, "{renormalised} {plain}");
        // The ELBO is the evaluation's, but for the draws.
        let evaluated = EvaluationOptions {
            batch_size: NonZeroUsize::new(4).expect("not zero"),
            sampler: Sampler::Correct,
            seed: 4,
            draw: 0,
        };
        let terms = evaluate(&model, &view, 0.0, evaluated, &device);
        assert!((plain + terms.cross_entropy + terms.kl).abs() < 0.01 * terms.loss);
    }

    #[test]
    fn the_posts_sampler_is_weighted_by_what_it_draws_from() {
        let (means, log_variances) = (
            [0.5f32, -1.0, 0.0, 0.2, 1.0],
            [-2.0f32, -1.0, 0.5, 0.0, -0.5],
        );
        let model = with_posterior(model(Likelihood::Bernoulli), &means, &log_variances);
        let (view, device, samples) = (view(2), Device::flex(), 6);
        // In float64, from the draws' own definition: the deviation is exp(v / 2), or exp(v) by the post's sampler.
        for (sampler, half) in [(Sampler::Correct, 0.5), (Sampler::Blog, 1.0)] {
            let options = ImportanceOptions {
                sampler,
                ..options(samples, 2)
            };
            let (mut elbo, mut bound) = (0.0, 0.0);
            for image in 0..2u64 {
                let images = view.batch(&[image as u32]).to_tensor(&device);
                let (mut nlls, mut weights) = (0.0, Vec::new());
                for sample in 0..samples {
                    let (mut latent, mut ratio) = (Vec::new(), 0.0);
                    let noise = noise(options.seed, image, sample, 5);
                    for ((mean, v), noise) in means.iter().zip(log_variances).zip(noise) {
                        let (log_deviation, noise) = (half * f64::from(v), f64::from(noise));
                        let z = f64::from(*mean) + log_deviation.exp() * noise;
                        ratio += 0.5 * (noise * noise - z * z) + log_deviation;
                        latent.push(z as f32);
                    }
                    let latent = Tensor::from_data(TensorData::new(latent, [1, 5]), &device);
                    let nll = wide(model.nll(model.output_map(latent), images.clone()))[0];
                    nlls += nll / samples as f64;
                    weights.push(ratio - nll);
                }
                let kl: f64 = means
                    .iter()
                    .zip(log_variances)
                    .map(|(mean, v)| (f64::from(*mean), 2.0 * half * f64::from(v)))
                    .map(|(mean, v)| 0.5 * (v.exp() + mean * mean - 1.0 - v))
                    .sum();
                let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = weights.iter().map(|weight| (weight - most).exp()).sum();
                elbo -= (nlls + kl) / 2.0;
                bound += (most + (sum / samples as f64).ln()) / 2.0;
            }
            let found = importance_bound(&model, &view, options, &device, |_| {});
            // The likelihood is about 2000 nats in float32; the samplers' divergences are more than a nat apart.
            assert!((found.elbo.nats - elbo).abs() < 2e-2, "{found:?} {elbo}");
            assert!((found.bound.nats - bound).abs() < 2e-2, "{found:?} {bound}");
        }
    }
}
