//! Scores of batches by the device's own forward pass.

use burn::prelude::*;
use run_files::metrics::BatchLoss;
use vae_core::Sampler;
use vae_device_step::Posteriors;

use super::OnDevice;
use super::checked::checked;
use crate::experiment::batch_images::BatchImages;
use crate::experiment::evaluate::BatchScorer;
use crate::experiment::model::Model;
use crate::step::weight_average::Weights;

/// Scores batches on the device, with the weights that are trained there or their average.
pub(crate) struct DeviceScorer<'a> {
    device: &'a mut OnDevice,
    weights: vae_device_step::Weights,
    latent_dim: usize,
    penalty: f64,
}

impl<'a> DeviceScorer<'a> {
    /// `model` has the same weights as the device.
    pub(crate) fn new(device: &'a mut OnDevice, model: &Model, weights: Weights) -> Self {
        let read = || f64::from(model.penalty().into_scalar::<f32>());
        let (of_device, at) = match weights {
            Weights::Trained => (vae_device_step::Weights::Trained, 0),
            Weights::Averaged => (vae_device_step::Weights::Averaged, 1),
        };
        Self {
            penalty: *device.penalties[at].get_or_insert_with(read),
            weights: of_device,
            device,
            latent_dim: model.latent_dim(),
        }
    }

    /// With the values of `model`, which has the same form, in place of the weights that are trained.
    pub(crate) fn of_another(device: &'a mut OnDevice, model: &Model) -> Self {
        let resnet = model.as_resnet().expect("the form of the device's own");
        device.step.set_model(resnet);
        device.goes_ahead();
        Self::new(device, model, Weights::Trained)
    }
}

impl OnDevice {
    /// The posteriors of a batch, which draws are made from until the next one; full batches have `batch_size` images.
    ///
    /// # Panics
    /// If the device fails, as Burn's own operations do.
    pub(crate) fn encode(&mut self, images: BatchImages, batch_size: usize) -> Posteriors {
        let posteriors = checked(self.step.encode(images.for_step(), batch_size));
        checked(self.step.check());
        posteriors
    }

    /// The negative log-likelihood of each image of that batch by one draw, in nats.
    ///
    /// # Panics
    /// If the device fails, as Burn's own operations do.
    pub(crate) fn draw(
        &mut self,
        images: BatchImages,
        noise: Tensor<2>,
        batch_size: usize,
    ) -> Vec<f32> {
        let pending = checked(self.step.draw(images.for_step(), noise, batch_size));
        let nlls = checked(pending.wait());
        checked(self.step.check());
        nlls
    }

    /// Gives back the memory of all maps.
    ///
    /// # Panics
    /// If the device fails, as Burn's own operations do.
    pub(crate) fn release(&mut self) {
        checked(self.step.release());
    }
}

impl BatchScorer for DeviceScorer<'_> {
    fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    fn score(
        &mut self,
        images: BatchImages,
        noise: Tensor<2>,
        sampler: Sampler,
        batch_size: usize,
    ) -> BatchLoss {
        assert_eq!(sampler, self.device.options.sampler, "the run's own");
        let step = &mut self.device.step;
        let pending = checked(step.evaluate(images.for_step(), noise, self.weights, batch_size));
        let terms = checked(pending.wait());
        checked(self.device.step.check());
        BatchLoss {
            cross_entropy: terms.cross_entropy,
            kl: terms.kl,
            l2: self.penalty,
        }
    }
}
