//! What an engine does where a GPU takes the steps by itself, ahead of the host: elsewhere there is nothing to wait for and nothing to read.

use run_files::step_guard::StepGuard;

use super::Engine;
use crate::experiment::evaluate::BatchScorer;
use crate::experiment::model::Model;
#[cfg(feature = "cube")]
use crate::ranks::RanksError;
#[cfg(feature = "cube")]
use crate::step::fault::FaultInjector;
#[cfg(feature = "cube")]
use crate::step::on_device::{DeviceScorer, OnDevice};
use crate::step::request::StepReport;
#[cfg(feature = "cube")]
use crate::step::request::StepRequest;
use crate::step::weight_average::Weights;

impl Engine {
    /// The report of a step that none has been given of yet. To be asked for before the model is read.
    pub(crate) fn settle(&mut self, guard: &mut StepGuard) -> Option<StepReport> {
        let report = self.catch_up(guard);
        self.read_model();
        report
    }

    /// As [`settle`](Self::settle), where the model is not needed: before its weights are saved.
    pub(crate) fn catch_up(&mut self, guard: &mut StepGuard) -> Option<StepReport> {
        #[cfg(feature = "cube")]
        if let Some(device) = &mut self.device {
            return device.settle(guard);
        }
        // Every other step waits for its own outcome.
        let _ = guard;
        None
    }

    /// Whether steps are a GPU's own, of which phases cannot be told apart and which go on behind the host.
    pub(crate) fn is_on_device(&self) -> bool {
        #[cfg(feature = "cube")]
        return self.device.is_some();
        #[cfg(not(feature = "cube"))]
        false
    }

    /// Why a device launches steps that it should replay, if it does.
    pub(crate) fn capture_failure(&self) -> Option<&str> {
        #[cfg(feature = "cube")]
        return self
            .device
            .as_ref()
            .and_then(|device| device.capture_failure());
        #[cfg(not(feature = "cube"))]
        None
    }

    /// What moves gradients between the GPUs of several ranks, once a step has been taken there.
    pub(crate) fn link(&self) -> Option<&str> {
        #[cfg(feature = "cube")]
        return self.device.as_ref().and_then(OnDevice::link);
        #[cfg(not(feature = "cube"))]
        None
    }

    /// Reads the model, and the average of its weights, from where it is trained.
    fn read_model(&mut self) {
        #[cfg(feature = "cube")]
        if let Some(device) = &mut self.device
            && let Some(model) = device.model(&self.model)
        {
            self.model = model;
            if let Some(average) = &mut self.average
                && let Some(model) = device.average(average.model())
            {
                average.set(model);
            }
        }
    }

    /// The step on the device, where there is one.
    #[cfg(feature = "cube")]
    pub(super) fn device_step(
        &mut self,
        mut request: StepRequest,
        guard: &mut StepGuard,
        faults: &FaultInjector,
    ) -> Result<Option<StepReport>, RanksError> {
        request.inputs.images = faults.images(request.step, request.inputs.images);
        let device = self.device.as_mut().expect("asked for before");
        let images = request.inputs.len();
        let report = if self.replicas.divides(images, self.options.micro_batch_size) {
            Some(device.divided_step(request, &mut self.replicas, guard)?)
        } else {
            device.step(request, guard)
        };
        Ok(report)
    }

    /// Who scores batches where the model is trained, on a device of its own; none elsewhere. The model has been [settled](Self::settle) before.
    /// With as many images at a time as [`images_per_pass`](Self::images_per_pass) says it needs no memory of its own.
    pub(crate) fn device_scorer(&mut self, weights: Weights) -> Option<Box<dyn BatchScorer + '_>> {
        #[cfg(feature = "cube")]
        if let Some(device) = &mut self.device {
            let model = match (weights, &self.average) {
                (Weights::Averaged, Some(average)) => average.model(),
                _ => &self.model,
            };
            return Some(Box::new(DeviceScorer::new(device, model, weights)));
        }
        let _ = weights;
        None
    }

    /// As [`device_scorer`](Self::device_scorer), with the values of another model of the same form, which take the place of those that are trained:
    /// for the end of a run, after which no step is taken.
    pub(crate) fn final_scorer(&mut self, model: &Model) -> Option<Box<dyn BatchScorer + '_>> {
        #[cfg(feature = "cube")]
        if let Some(device) = &mut self.device {
            return Some(Box::new(DeviceScorer::of_another(device, model)));
        }
        let _ = model;
        None
    }

    /// Gives back the memory of a device's maps, once nothing more is trained or scored there: what follows is made of Burn's operations.
    pub(crate) fn release(&mut self) {
        #[cfg(feature = "cube")]
        if let Some(device) = &mut self.device {
            device.release();
        }
    }

    /// Images of the largest pass over a batch of training on a device of its own; none elsewhere.
    pub(crate) fn images_per_pass(&self, batch: usize) -> Option<usize> {
        #[cfg(feature = "cube")]
        if self.device.is_some() {
            let micro_batch_size = self.options.micro_batch_size;
            return Some(self.replicas.images_per_pass(batch, micro_batch_size));
        }
        let _ = batch;
        None
    }
}
