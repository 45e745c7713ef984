//! Scores a model on a split: every image once, each weighted alike.

use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{BatchPlan, IMAGE_BYTES, View, pixel_entropy_floor};
use resnet_blocks::{join, sum_in_fixed_order};
use vae_core::{Likelihood, LossTerms, Sampler};

use crate::experiment::batch_images::BatchImages;
use crate::experiment::model::{Model, ModelConfig};
use crate::experiment::random::evaluation_noise;
use crate::experiment::split_images::{ImagePlace, SplitImages};
use crate::process::stop_request::{StopRequest, StopSignal};
use crate::ranks::tree_sum::Contribution;
use crate::ranks::{Ranks, RanksError, Requests};
use run_files::metrics::{BatchLoss, TermSums, Terms};
use run_files::settings::Settings;

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

/// Who computes the loss of a batch: a model's forward pass, or a device's own.
pub(crate) trait BatchScorer {
    /// Values of noise an image.
    fn latent_dim(&self) -> usize;

    /// The sums over the batch, with running statistics and no gradients. All batches but the last of a split have `batch_size` images.
    fn score(
        &mut self,
        images: BatchImages,
        noise: Tensor<2>,
        sampler: Sampler,
        batch_size: usize,
    ) -> BatchLoss;
}

/// Scores by the forward pass of a model, which is `valid()`.
pub(crate) struct ModelScorer<'a>(pub(crate) &'a Model);

impl BatchScorer for ModelScorer<'_> {
    fn latent_dim(&self) -> usize {
        self.0.latent_dim()
    }

    fn score(
        &mut self,
        images: BatchImages,
        noise: Tensor<2>,
        sampler: Sampler,
        _: usize,
    ) -> BatchLoss {
        let output = self.0.forward(images.tensor(), noise, sampler, None);
        read_terms(&output.terms)
    }
}

/// Means over the split's images, in nats.
///
/// `model` is `valid()`, so that running statistics are used. `floor` is the split's
/// [`pixel_entropy_floor`]: it is subtracted from the cross-entropy to give the excess.
///
/// # Panics
/// If the split is empty.
pub fn evaluate(
    model: &Model,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
) -> Terms {
    evaluate_by(&mut ModelScorer(model), view, floor, options, device)
}

/// As [`evaluate`], by whoever computes the loss of a batch on the device.
pub(crate) fn evaluate_by(
    scorer: &mut dyn BatchScorer,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
) -> Terms {
    let device = device.clone().inner();
    let images = SplitImages::new(view, &device, ImagePlace::of(&device));
    evaluate_until(
        scorer,
        &images,
        floor,
        options,
        (&StopRequest::new(), &Ranks::alone()),
        &mut |_| {},
    )
    .expect("nobody else holds the request")
}

/// Why a split was not scored to its end.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// Someone asked to stop.
    Stop(StopSignal),
    /// Another rank is lost.
    Ranks(RanksError),
}

/// As [`evaluate`], but given up where someone asks to stop; `watch` is told how many images are done. `images` are the split's, on
/// the device without autodiff. The ranks share the batches, and their sums are added in the batches' order.
///
/// # Errors
/// Who asked, or that another rank is lost.
///
/// # Panics
/// If the split is empty.
pub(crate) fn evaluate_until(
    scorer: &mut dyn BatchScorer,
    images: &SplitImages,
    floor: f64,
    options: EvaluationOptions,
    (stop, ranks): (&StopRequest, &Ranks),
    watch: &mut dyn FnMut(usize),
) -> Result<Terms, Interrupted> {
    let view = images.view();
    assert!(!view.is_empty(), "a mean needs at least one image");
    let device = images.device();
    let latent_dim = scorer.latent_dim();
    let plan = BatchPlan::evaluation(view.clone(), options.batch_size);
    let batches = images.epoch(&plan, 0);
    let images_of = |index: usize| {
        let start = index * options.batch_size.get();
        start..(start + options.batch_size.get()).min(view.len())
    };
    let mut score = |index: usize| {
        let images = batches.batch(index);
        let positions = images_of(index);
        let batch = positions.len();
        let noise = evaluation_noise(options.seed, options.draw, positions, latent_dim);
        let noise = Tensor::from_data(TensorData::new(noise, [batch, latent_dim]), device);
        scorer.score(images, noise, options.sampler, options.batch_size.get())
    };
    let mut sums = TermSums::default();
    for first in (0..plan.num_batches()).step_by(ranks.size()) {
        let requested = stop.requested();
        if let Some(signal) = requested
            && !ranks.are_several()
        {
            return Err(Interrupted::Stop(signal));
        }
        let round = first..(first + ranks.size()).min(plan.num_batches());
        let own = first + ranks.rank();
        let loss = round.contains(&own).then(|| score(own));
        let (losses, stops) =
            losses_of_round(loss, requested, ranks).map_err(Interrupted::Ranks)?;
        if let Some(signal) = stops.filter(|_| ranks.are_several()) {
            return Err(Interrupted::Stop(signal));
        }
        for (index, loss) in round.clone().zip(losses) {
            sums.add(loss, images_of(index).len());
        }
        watch(images_of(round.end - 1).end);
    }
    Ok(sums.means(floor))
}

/// The loss of each rank's batch, in order, and who asks any of them to stop.
fn losses_of_round(
    own: Option<BatchLoss>,
    requested: Option<StopSignal>,
    ranks: &Ranks,
) -> Result<(Vec<BatchLoss>, Option<StopSignal>), RanksError> {
    // Sums of one number and zeros, which are exact.
    let mut numbers = vec![0.0; 3 * ranks.size()];
    if let Some(loss) = own {
        let own = [loss.cross_entropy, loss.kl, loss.l2];
        numbers[3 * ranks.rank()..][..3].copy_from_slice(&own);
    }
    let contribution = Contribution {
        numbers,
        ..Contribution::default()
    };
    let requests = Requests {
        stop: requested.map_or(0, StopSignal::number),
        checkpoint: false,
    };
    let (sum, requests) = ranks.sum(Some(contribution), 0, requests)?;
    let losses = sum.numbers.chunks(3).map(|loss| BatchLoss {
        cross_entropy: loss[0],
        kl: loss[1],
        l2: loss[2],
    });
    Ok((losses.collect(), StopSignal::from_number(requests.stop)))
}

/// The floor of a split's cross-entropy, in nats an image; 0 for an empty split.
pub fn floor(view: &View) -> f64 {
    if view.is_empty() {
        0.0
    } else {
        pixel_entropy_floor(view)
    }
}

/// The floor of what a model's reconstruction costs: that of the cross-entropy under a Bernoulli likelihood, NaN under the
/// others, whose log-probability has none.
pub(crate) fn cross_entropy_floor(config: &ModelConfig, view: &View) -> f64 {
    match config.likelihood() {
        Likelihood::Bernoulli => floor(view),
        _ => f64::NAN,
    }
}

/// Negative ELBO of a split's means in bits per dimension, where the settings have a bound.
pub(crate) fn bits_per_dim(settings: &Settings, terms: &Terms) -> Option<f64> {
    settings
        .bounds_the_likelihood()
        .then(|| vae_measures::bits_per_dim(terms.cross_entropy_plus_kl(), IMAGE_BYTES))
}

/// Reads the loss of a batch, in one transfer.
pub fn read_terms(terms: &LossTerms) -> BatchLoss {
    let sums = join(
        vec![
            sum_in_fixed_order(terms.cross_entropy.clone()),
            sum_in_fixed_order(terms.kl.clone()),
            terms.l2.clone().narrow(0, 0, 1),
        ],
        0,
    );
    let sums = sums.into_data().convert_dtype(burn::tensor::DType::F64);
    let sums = sums
        .try_to_vec::<f64>()
        .expect("converted to float64 just now");
    BatchLoss {
        cross_entropy: sums[0],
        kl: sums[1],
        l2: sums[2],
    }
}
