//! The evaluation of a batch, in the buffers of a full one.

use burn::prelude::Tensor;

use super::DeviceStep;
use super::buffers::{Shape, Work};
use super::inputs::{StepInputs, Weights};
use crate::outcome::{PendingTerms, StepError};

impl DeviceStep {
    /// Asks for the terms of a batch's loss, with the running statistics and no gradients.
    ///
    /// A full batch has `batch_size` images; one with fewer, as at the end of a split, goes with the full batch's buffers and graph, so that its terms
    /// depend on nothing that was computed before. Memory grows least where full batches are as large as those of training.
    ///
    /// # Errors
    /// If there is no average of the weights, the inputs are on another device, or the device failed.
    pub fn evaluate(
        &mut self,
        images: Tensor<4>,
        noise: Tensor<2>,
        weights: Weights,
        batch_size: usize,
    ) -> Result<PendingTerms, StepError> {
        if weights == Weights::Averaged && self.averaged.is_none() {
            return Err(StepError("no average of the weights is kept".to_owned()));
        }
        let inputs = StepInputs {
            images,
            noise,
            dropout: None,
        };
        let own = Shape::of(&inputs, Work::Evaluation(weights));
        // With given statistics no image depends on another: what else lies in a full batch's buffers is computed and not read.
        let room = own.batch.max(batch_size);
        let reading = self.ask(inputs, Shape { batch: room, ..own })?;
        Ok(PendingTerms {
            reading,
            images: own.batch,
            room,
        })
    }
}
