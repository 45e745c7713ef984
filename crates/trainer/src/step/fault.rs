//! Values that are put into a step on purpose, to see what becomes of those that are not finite.

use burn::prelude::*;
use burn::tensor::Gradients;
use run_files::metrics::BatchLoss;
use vae_core::Vae;

/// A value, and where it is put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Step since the run began, from 0.
    pub(crate) step: u64,
    pub(crate) site: FaultSite,
    pub(crate) value: f32,
}

/// A place in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultSite {
    /// The images, which are multiplied with the value.
    Input,
    /// The loss as it is read: its KL divergence.
    Loss,
    /// The gradient of the decoder's first dense layer, all of it.
    Gradient,
}

/// The faults of a run: none but in tests.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultInjector {
    faults: Vec<Fault>,
}

impl FaultInjector {
    /// Changes nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Puts these values where they say.
    #[cfg(all(test, feature = "flex"))]
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// The value for one place in a step.
    pub(crate) fn at(&self, step: u64, site: FaultSite) -> Option<f32> {
        let mut faults = self.faults.iter();
        faults
            .find(|fault| fault.step == step && fault.site == site)
            .map(|fault| fault.value)
    }

    pub(super) fn images(&self, step: u64, images: Tensor<4>) -> Tensor<4> {
        match self.at(step, FaultSite::Input) {
            Some(value) => images.mul_scalar(value),
            None => images,
        }
    }

    pub(super) fn loss(&self, step: u64, mut loss: BatchLoss) -> BatchLoss {
        if let Some(value) = self.at(step, FaultSite::Loss) {
            loss.kl = f64::from(value);
        }
        loss
    }

    pub(super) fn gradients(&self, step: u64, model: &Vae, mut gradients: Gradients) -> Gradients {
        if let Some(value) = self.at(step, FaultSite::Gradient) {
            let weight = model.decoder.dense.weight.val();
            if let Some(gradient) = weight.grad(&gradients) {
                weight.grad_replace(&mut gradients, gradient.mul_scalar(0.0).add_scalar(value));
            }
        }
        gradients
    }
}
