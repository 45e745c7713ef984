//! Values that are put into a step on purpose, to see what becomes of those that are not finite.

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::Gradients;
use resnet_blocks::parameter_names;
use run_files::metrics::BatchLoss;

use crate::experiment::batch_images::BatchImages;
use crate::experiment::model::Model;
use crate::experiment::weights::DECODER_PREFIX;

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
    /// The gradient of the decoder's first parameter, all of it.
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

    pub(super) fn images(&self, step: u64, images: BatchImages) -> BatchImages {
        match self.at(step, FaultSite::Input) {
            Some(value) => images.tensor().mul_scalar(value).into(),
            None => images,
        }
    }

    pub(super) fn loss(&self, step: u64, mut loss: BatchLoss) -> BatchLoss {
        if let Some(value) = self.at(step, FaultSite::Loss) {
            loss.kl = f64::from(value);
        }
        loss
    }

    pub(super) fn gradients(
        &self,
        step: u64,
        model: &Model,
        mut gradients: Gradients,
    ) -> Gradients {
        let Some(value) = self.at(step, FaultSite::Gradient) else {
            return gradients;
        };
        let mut names = parameter_names(model).into_iter();
        if let Some(first) = names.find(|each| each.name.starts_with(DECODER_PREFIX)) {
            model.visit(&mut Filler {
                gradients: &mut gradients,
                parameter: first.id,
                value,
            });
        }
        gradients
    }
}

/// Gives one parameter's gradient the same value everywhere.
struct Filler<'a> {
    gradients: &'a mut Gradients,
    parameter: ParamId,
    value: f32,
}

impl ModuleVisitor for Filler<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if param.id == self.parameter
            && let Some(gradient) = value.grad(self.gradients)
        {
            let filled = gradient.mul_scalar(0.0).add_scalar(self.value);
            value.grad_replace(self.gradients, filled);
        }
    }
}
