//! How a model uses each dimension of its latent: the KL divergence it spends there, and whether the posterior's mean
//! moves from image to image.

use std::num::NonZeroUsize;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};

pub use run_files::run_record::{ACTIVE_ABOVE, LatentStatistics};

use crate::experiment::model::Model;
use crate::experiment::split_images::{ImagePlace, SplitImages};

/// Encodes every image of `view` once and gathers each dimension's statistics, in float64.
///
/// `model` is `valid()`, so that running statistics are used. The KL divergences sum to the `kl` that
/// [`evaluate`](crate::experiment::scores::evaluate::evaluate) gives for the split, up to float32's rounding there.
///
/// # Panics
/// If the split is empty.
pub fn latent_statistics(
    model: &Model,
    view: &View,
    batch_size: NonZeroUsize,
    device: &Device,
) -> LatentStatistics {
    let device = device.clone().inner();
    let images = SplitImages::new(view, &device, ImagePlace::of(&device));
    latent_statistics_of(model, &images, batch_size)
}

/// As [`latent_statistics`], of images that lie on the model's device already, without autodiff.
///
/// # Panics
/// If the split is empty.
pub(crate) fn latent_statistics_of(
    model: &Model,
    images: &SplitImages,
    batch_size: NonZeroUsize,
) -> LatentStatistics {
    let view = images.view();
    assert!(!view.is_empty(), "a mean needs at least one image");
    let plan = BatchPlan::evaluation(view.clone(), batch_size);
    let batches = images.epoch(&plan, 0);
    let mut moments = Moments::new(model.latent_dim());
    for index in 0..plan.num_batches() {
        let posterior = model.posterior(batches.batch(index).tensor());
        moments.add(&values(posterior.mean), &values(posterior.log_variance));
    }
    moments.finish()
}

fn values(tensor: Tensor<2>) -> Vec<f64> {
    let data = tensor.into_data().convert_dtype(DType::F64);
    data.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}

/// Running means and squared deviations, a batch at a time.
///
/// A sum of squares minus a squared sum would lose the variance of a dimension whose mean lies far from zero. Here each
/// batch has its own two passes, and batches are merged as in Chan, Golub and LeVeque 1979.
struct Moments {
    images: f64,
    /// Of the posterior's mean.
    mean: Vec<f64>,
    /// Sum of squared deviations from `mean`.
    squares: Vec<f64>,
    /// Mean KL divergence.
    kl: Vec<f64>,
}

impl Moments {
    fn new(latent_dim: usize) -> Self {
        Self {
            images: 0.0,
            mean: vec![0.0; latent_dim],
            squares: vec![0.0; latent_dim],
            kl: vec![0.0; latent_dim],
        }
    }

    /// Adds a batch of posteriors; both `[batch, latent_dim]`.
    fn add(&mut self, means: &[f64], log_variances: &[f64]) {
        let latent_dim = self.mean.len();
        let batch = (means.len() / latent_dim) as f64;
        let total = self.images + batch;
        for dim in 0..latent_dim {
            let column = || means.iter().skip(dim).step_by(latent_dim);
            let mean = column().sum::<f64>() / batch;
            let squares: f64 = column().map(|value| (value - mean).powi(2)).sum();
            let kl: f64 = column()
                .zip(log_variances.iter().skip(dim).step_by(latent_dim))
                .map(|(mean, log_variance)| kl_to_standard_normal(*mean, *log_variance))
                .sum();
            let difference = mean - self.mean[dim];
            self.mean[dim] += difference * batch / total;
            self.squares[dim] += squares + difference.powi(2) * self.images * batch / total;
            self.kl[dim] += (kl - self.kl[dim] * batch) / total;
        }
        self.images = total;
    }

    fn finish(self) -> LatentStatistics {
        LatentStatistics {
            kl_per_dimension: self.kl,
            mean_variance: self
                .squares
                .into_iter()
                .map(|squares| squares / self.images)
                .collect(),
        }
    }
}

/// Of one dimension, in nats.
fn kl_to_standard_normal(mean: f64, log_variance: f64) -> f64 {
    // `exp_m1` keeps the digits where the variance is almost 1, as it is in every dimension that is not used.
    0.5 * (mean * mean + (log_variance.exp_m1() - log_variance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_batches(batches: &[(&[f64], &[f64])], latent_dim: usize) -> LatentStatistics {
        let mut moments = Moments::new(latent_dim);
        for (means, log_variances) in batches {
            moments.add(means, log_variances);
        }
        moments.finish()
    }

    #[test]
    fn closed_forms_hold() {
        // Means 1 to 6 have variance (6^2 - 1) / 12; a posterior that is the prior costs nothing.
        let log_variances = [0.0; 6];
        let whole = of_batches(&[(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &log_variances)], 1);
        assert!((whole.mean_variance[0] - 35.0 / 12.0).abs() < 1e-14);
        // Half the mean of 1, 4, 9, 16, 25, 36.
        assert!((whole.kl_per_dimension[0] - 91.0 / 12.0).abs() < 1e-14);
        let prior = of_batches(&[(&[0.0, 0.0], &[0.0, 0.0])], 2);
        assert_eq!(prior.kl_per_dimension, [0.0, 0.0]);
        assert_eq!(prior.active(), 0);
        // A variance of 4 about 0: (4 - 1 - ln 4) / 2 nats.
        let wide = of_batches(&[(&[0.0], &[4f64.ln()])], 1);
        assert!((wide.kl_per_dimension[0] - (1.5 - 2f64.ln())).abs() < 1e-15);
        // Almost the prior: the series of exp(v) - 1 - v begins with v^2 / 2.
        let near = of_batches(&[(&[0.0], &[1e-6])], 1);
        assert!((near.kl_per_dimension[0] / 2.5e-13 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn batches_of_any_size_agree_with_two_passes_even_far_from_zero() {
        // A mean of a million with a deviation of 0.1: a sum of squares would keep three digits of the variance.
        let value = |image: usize, dim: usize| {
            1e6 * dim as f64 + 0.1 * ((image * 7 + dim * 3) % 11) as f64 - 0.01 * image as f64
        };
        let (images, latent_dim) = (23, 3);
        let means: Vec<f64> = (0..images * latent_dim)
            .map(|index| value(index / latent_dim, index % latent_dim))
            .collect();
        let log_variances: Vec<f64> = (0..images * latent_dim)
            .map(|index| -4.0 + 0.3 * (index % 13) as f64)
            .collect();
        for batch in [1, 2, 7, 22, 23] {
            let batches: Vec<(&[f64], &[f64])> = means
                .chunks(batch * latent_dim)
                .zip(log_variances.chunks(batch * latent_dim))
                .collect();
            let found = of_batches(&batches, latent_dim);
            for dim in 0..latent_dim {
                let column: Vec<f64> = (0..images).map(|image| value(image, dim)).collect();
                let mean = column.iter().sum::<f64>() / images as f64;
                let variance =
                    column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / images as f64;
                let kl = (0..images)
                    .map(|image| {
                        let v = log_variances[image * latent_dim + dim];
                        0.5 * (column[image].powi(2) + v.exp() - 1.0 - v)
                    })
                    .sum::<f64>()
                    / images as f64;
                // The values themselves are rounded to 1e-10 at a million, which moves a variance of 0.1 by 1e-10.
                assert!(
                    (found.mean_variance[dim] / variance - 1.0).abs() < 1e-8,
                    "batches of {batch}, dimension {dim}: {} against {variance}",
                    found.mean_variance[dim]
                );
                assert!(
                    (found.kl_per_dimension[dim] / kl - 1.0).abs() < 1e-12,
                    "batches of {batch}, dimension {dim}: {} against {kl}",
                    found.kl_per_dimension[dim]
                );
            }
        }
    }

    #[test]
    fn a_dimension_is_active_above_the_threshold_and_not_at_it() {
        let statistics = LatentStatistics {
            kl_per_dimension: vec![1.0; 5],
            mean_variance: vec![0.01, 0.010001, 0.0, 3.0, f64::NAN],
        };
        assert_eq!(statistics.active(), 2);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_dimensions_sum_to_the_evaluated_kl() {
        use crate::experiment::model::initial_model;
        use crate::experiment::scores::evaluate::{EvaluationOptions, evaluate};
        use vae_core::{Depth, Sampler, VaeConfig};

        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.0625)
            .with_latent_dim(6);
        let device = Device::flex();
        let model = initial_model(&config.into(), 5, &device);
        let view = cifar_loader::Cifar10::sample()
            .expect("embedded")
            .test()
            .first(25);
        let size = |size| NonZeroUsize::new(size).expect("not zero");
        let options = EvaluationOptions {
            batch_size: size(25),
            sampler: Sampler::Correct,
            seed: 1,
            draw: 0,
        };
        let evaluated = evaluate(&model, &view, 0.0, options, &device);
        let found = latent_statistics(&model, &view, size(10), &device);
        assert_eq!(found.kl_per_dimension.len(), 6);
        let sum: f64 = found.kl_per_dimension.iter().sum();
        assert!(evaluated.kl > 0.0);
        // float32 on one side.
        assert!(
            (sum / evaluated.kl - 1.0).abs() < 1e-5,
            "{sum} against {}",
            evaluated.kl
        );
        let whole = latent_statistics(&model, &view, size(25), &device);
        for (batched, whole) in found.mean_variance.iter().zip(&whole.mean_variance) {
            assert!((batched / whole - 1.0).abs() < 1e-4, "{batched} {whole}");
        }
    }
}
