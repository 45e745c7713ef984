//! Scores a model on a split: every image once, each weighted alike.

use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{BatchPlan, View, pixel_entropy_floor};
use vae_core::{LossTerms, Sampler, Vae};

use crate::metrics::{TermSums, Terms};
use crate::random::{Purpose, Stream};
use crate::stop_request::{StopRequest, StopSignal};

/// How a split is scored.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationOptions {
    /// Images at a time.
    pub batch_size: NonZeroUsize,
    /// How latents are drawn, one an image.
    pub sampler: Sampler,
    /// Of the run.
    pub seed: u64,
    /// Chooses the noise: the epoch in training, 0 for a final score.
    pub draw: u32,
}

/// Means over the split's images, in nats.
///
/// `model` is `valid()`, so that running statistics are used. `floor` is the split's
/// [`pixel_entropy_floor`]: it is subtracted from the cross-entropy to give the excess.
///
/// # Panics
/// If the split is empty.
pub fn evaluate(
    model: &Vae,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
) -> Terms {
    evaluate_until(model, view, floor, options, device, &StopRequest::new())
        .expect("nobody else holds the request")
}

/// As [`evaluate`], but given up where someone asks to stop.
///
/// # Errors
/// Who asked.
///
/// # Panics
/// If the split is empty.
pub fn evaluate_until(
    model: &Vae,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
    stop: &StopRequest,
) -> Result<Terms, StopSignal> {
    assert!(!view.is_empty(), "a mean needs at least one image");
    let device = device.clone().inner();
    let latent_dim = latent_dim(model);
    let plan = BatchPlan::evaluation(view.clone(), options.batch_size);
    let mut sums = TermSums::default();
    for index in 0..plan.num_batches() {
        if let Some(signal) = stop.requested() {
            return Err(signal);
        }
        let batch = plan.batch(0, index);
        let stream = (options.draw as u64) << 32 | index as u64;
        let noise = Stream::new(options.seed, Purpose::EvaluationNoise, stream)
            .standard_normal(batch.len() * latent_dim);
        let noise = Tensor::from_data(TensorData::new(noise, [batch.len(), latent_dim]), &device);
        let output = model.forward(batch.to_tensor(&device), noise, options.sampler, None);
        sums.add(read_terms(&output.terms), batch.len());
    }
    Ok(sums.means(floor))
}

/// The floor of a split's cross-entropy, in nats an image; 0 for an empty split.
pub fn floor(view: &View) -> f64 {
    if view.is_empty() {
        0.0
    } else {
        pixel_entropy_floor(view)
    }
}

/// Dimensions of the model's latent.
pub(crate) fn latent_dim(model: &Vae) -> usize {
    let [_, latent_dim] = model.encoder.mean.weight.shape().dims();
    latent_dim
}

/// Sums over a batch's images: cross-entropy, KL, and the penalties (the same for each image), read in one transfer.
pub fn read_terms(terms: &LossTerms) -> [f64; 3] {
    let sums = Tensor::cat(
        vec![
            terms.cross_entropy.clone().sum(),
            terms.kl.clone().sum(),
            terms.l2.clone().narrow(0, 0, 1),
        ],
        0,
    );
    let sums = sums.into_data().convert_dtype(burn::tensor::DType::F64);
    let sums = sums
        .try_to_vec::<f64>()
        .expect("converted to float64 just now");
    [sums[0], sums[1], sums[2]]
}
