//! Scores of batches by the device's own forward pass.

use burn::prelude::*;
use run_files::metrics::BatchLoss;
use vae_core::Sampler;

use super::{OnDevice, checked};
use crate::experiment::evaluate::BatchScorer;
use crate::experiment::model::Model;

/// Scores batches on the device, with the weights that are trained there.
pub(crate) struct DeviceScorer<'a> {
    device: &'a mut OnDevice,
    latent_dim: usize,
    penalty: f64,
}

impl<'a> DeviceScorer<'a> {
    /// `model` has the device's weights.
    pub(crate) fn new(device: &'a mut OnDevice, model: &Model) -> Self {
        let read = || f64::from(model.penalty().into_scalar::<f32>());
        Self {
            penalty: *device.penalty.get_or_insert_with(read),
            device,
            latent_dim: model.latent_dim(),
        }
    }
}

impl BatchScorer for DeviceScorer<'_> {
    fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    fn score(&mut self, images: Tensor<4>, noise: Tensor<2>, sampler: Sampler) -> BatchLoss {
        assert_eq!(sampler, self.device.options.sampler, "the run's own");
        let pending = checked(self.device.step.evaluate(images, noise));
        let terms = checked(pending.wait());
        BatchLoss {
            cross_entropy: terms.cross_entropy,
            kl: terms.kl,
            l2: self.penalty,
        }
    }
}
