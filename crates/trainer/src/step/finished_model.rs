//! Scores of a model that is not trained any more, by the same pass as in training.

use burn::prelude::*;
use cifar_loader::View;
use run_files::metrics::Terms;

#[cfg(feature = "cube")]
use crate::experiment::evaluate::evaluate_by;
use crate::experiment::evaluate::{EvaluationOptions, evaluate};
#[cfg(feature = "cube")]
use crate::experiment::image_posterior::ImagePosterior;
use crate::experiment::importance::{ImportanceBound, ImportanceOptions, importance_bound};
#[cfg(feature = "cube")]
use crate::experiment::importance::{batch_noise, importance_bound_by};
use crate::experiment::model::Model;
#[cfg(feature = "cube")]
use crate::step::on_device::{DeviceScorer, OnDevice};
#[cfg(feature = "cube")]
use crate::step::request::EngineOptions;
#[cfg(feature = "cube")]
use crate::step::weight_average::Weights;

/// What a finished model's score is, and how it came about.
pub(crate) struct FinishedScore {
    /// Means over the split's images, in nats.
    pub(crate) terms: Terms,
    /// Why a GPU launched batches that it should have replayed as a graph, if it did.
    pub(crate) capture_failure: Option<String>,
}

/// As [`evaluate`], by a GPU's own pass where it has one for the model's form. The pass's memory has been given back at the end.
/// As many images at a time as the device has buffers for: the noise of each is its own, whatever its batch.
///
/// # Panics
/// If the split is empty, or the device fails, as Burn's own operations do.
pub(crate) fn evaluate_finished(
    model: &Model,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
) -> FinishedScore {
    let options = EvaluationOptions {
        batch_size: model.at_a_time(options.batch_size, device),
        ..options
    };
    #[cfg(feature = "cube")]
    if let Some(mut own) = OnDevice::new(model, EngineOptions::of_scores(options.sampler)) {
        let mut scorer = DeviceScorer::new(&mut own, model, Weights::Trained);
        let terms = evaluate_by(&mut scorer, view, floor, options, device);
        let capture_failure = own.capture_failure().map(str::to_owned);
        own.release();
        return FinishedScore {
            terms,
            capture_failure,
        };
    }
    FinishedScore {
        terms: evaluate(model, view, floor, options, device),
        capture_failure: None,
    }
}

/// As [`importance_bound`], by a GPU's own pass where it has one for the model's form: the encoder runs once a batch, and a draw's decoder is replayed.
/// The pass's memory has been given back at the end. Besides, why a GPU launched draws that it should have replayed, if it did.
///
/// # Panics
/// If the split is empty, or the device fails, as Burn's own operations do.
pub(crate) fn importance_of_finished(
    model: &Model,
    view: &View,
    options: ImportanceOptions,
    device: &Device,
    each_image: impl FnMut(u64),
) -> (ImportanceBound, Option<String>) {
    #[cfg(feature = "cube")]
    if let Some(mut own) = OnDevice::new(model, EngineOptions::of_scores(options.sampler)) {
        let latent_dim = model.latent_dim();
        let (place, full) = (device.clone().inner(), options.batch_size.get());
        let bound = importance_bound_by(view, options, device, each_image, |images, first, add| {
            let batch = images.len();
            let found = own.encode(images.clone(), full);
            let means = found.mean.chunks(latent_dim);
            let posteriors = means.zip(found.log_variance.chunks(latent_dim));
            let posteriors = posteriors.map(|(mean, log_variance)| ImagePosterior {
                mean,
                log_variance,
                sampler: options.sampler,
            });
            let posteriors: Vec<ImagePosterior<'_>> = posteriors.collect();
            for sample in 0..options.samples.get() {
                let noise = batch_noise(options.seed, (first, batch), sample, latent_dim);
                let of_images = posteriors.iter().zip(noise.chunks(latent_dim));
                let ratios = of_images.map(|(posterior, noise)| posterior.log_prior_ratio(noise));
                let ratios: Vec<f64> = ratios.collect();
                let noise = TensorData::new(noise, [batch, latent_dim]);
                let noise = Tensor::<2>::from_data(noise, &place);
                let nlls = own.draw(images.clone(), noise, full).into_iter();
                let nlls: Vec<f64> = nlls.map(f64::from).collect();
                add(&nlls, &ratios);
            }
            posteriors.iter().map(ImagePosterior::kl).collect()
        });
        let capture_failure = own.capture_failure().map(str::to_owned);
        own.release();
        return (bound, capture_failure);
    }
    let bound = importance_bound(model, view, options, device, each_image);
    (bound, None)
}
