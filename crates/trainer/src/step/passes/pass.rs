//! Forward and backward over a batch.

use std::ops::Range;

use burn::prelude::*;
use burn::tensor::Gradients;
use vae_core::{DropoutMasks, Sampler};

use crate::experiment::batch_images::BatchImages;
use crate::experiment::evaluate::read_terms;
use crate::experiment::model::Model;
use crate::step::block_checkpointing::{Forward, ForwardInputs};
use crate::step::kl_objective::KlObjective;
use run_files::divergence::first_non_finite;
use run_files::metrics::BatchLoss;

/// What a pass is made over.
pub(crate) struct Inputs {
    /// On the autodiff device.
    pub(crate) images: BatchImages,
    /// `[batch, latent_dim]`, standard normal
    pub(crate) noise: Tensor<2>,
    /// Drawn for the whole batch, so that no image's masks depend on how the batch is divided.
    pub(crate) dropout: Option<DropoutMasks>,
}

impl Inputs {
    /// Images in it.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// As a forward pass takes them.
    pub(crate) fn forward(self, sampler: Sampler) -> ForwardInputs {
        let Self {
            images,
            noise,
            dropout,
        } = self;
        ForwardInputs {
            images: images.tensor(),
            noise,
            dropout,
            sampler,
        }
    }

    /// The same on another device.
    pub(crate) fn on(self, device: &Device) -> Self {
        Self {
            images: self.images.tensor().to_device(device).into(),
            noise: self.noise.to_device(device),
            dropout: self.dropout.map(|masks| DropoutMasks {
                encoder: masks.encoder.to_device(device),
                decoder: masks.decoder.to_device(device),
            }),
        }
    }

    /// The images of a range, with their noise and masks.
    pub(crate) fn slice(&self, range: &Range<usize>) -> Self {
        if *range == (0..self.len()) {
            // The very tensors, so that an undivided batch is computed as it is.
            return Self {
                images: self.images.clone(),
                noise: self.noise.clone(),
                dropout: self.dropout.clone(),
            };
        }
        let rows = |all: &Tensor<2>| all.clone().narrow(0, range.start, range.len());
        Self {
            images: self.images.slice(range),
            noise: rows(&self.noise),
            dropout: self.dropout.as_ref().map(|masks| DropoutMasks {
                encoder: rows(&masks.encoder),
                decoder: rows(&masks.decoder),
            }),
        }
    }
}

/// How the passes of a run are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassOptions {
    /// Images at a time on each device; none for all.
    pub(crate) micro_batch_size: Option<usize>,
    pub(crate) sampler: Sampler,
    /// Whether backward computes the blocks again.
    pub(crate) gradient_checkpointing: bool,
    /// What is minimised of the KL divergence.
    pub(crate) kl: KlObjective,
}

/// A phase of a step; those of a divided batch end once for each of its passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The forward pass, and reading the loss.
    Forward,
    /// The backward pass; at its last end, the norms of the gradients too.
    Backward,
    /// The optimizer.
    Optimizer,
}

/// What a pass over a batch computed.
pub(crate) struct Pass {
    pub(crate) loss: BatchLoss,
    /// Of the mean loss; none where an undivided pass stopped at a term that was not finite.
    pub(crate) gradients: Option<Gradients>,
    /// That pass.
    pub(crate) failed: Option<Forward>,
    /// Each latent dimension's mean KL divergence over the whole batch, where there are free bits.
    pub(crate) kl_means: Option<Vec<f64>>,
    /// The running statistics after the step, in the order of the module, where the batch is divided; the model still has those before it.
    pub(crate) running_statistics: Option<Tensor<1>>,
}

/// A pass over a whole batch at once, which updates the model's running statistics. `ended` is called at the end of each phase.
///
/// It stops where a term of the loss is not finite: the step will be skipped.
///
/// # Errors
/// What `ended` gives.
pub(crate) fn undivided_pass<E>(
    model: &Model,
    inputs: &Inputs,
    options: PassOptions,
    ended: &mut impl FnMut(Phase) -> Result<(), E>,
) -> Result<Pass, E> {
    let batch = inputs.len();
    let inputs = inputs.slice(&(0..batch)).forward(options.sampler);
    let forward = Forward::new(model, inputs, options.gradient_checkpointing);
    let loss = read_terms(forward.terms());
    ended(Phase::Forward)?;
    if first_non_finite(loss).is_some() {
        return Ok(Pass {
            loss,
            gradients: None,
            failed: Some(forward),
            kl_means: None,
            running_statistics: None,
        });
    }
    let kl_means = options.kl.free_bits.map(|_| {
        let sums = forward.kl_sums().into_iter();
        sums.map(|sum| sum / batch as f64).collect::<Vec<f64>>()
    });
    let gradients = forward.backward_weighted(model, &options.kl.weights(kl_means.as_deref()));
    ended(Phase::Backward)?;
    Ok(Pass {
        loss,
        gradients: Some(gradients),
        failed: None,
        kl_means,
        running_statistics: None,
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests;
