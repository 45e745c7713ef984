//! The evaluation of a batch, in the buffers of another where these have room for it.

use burn::prelude::Tensor;

use super::DeviceStep;
use super::buffers::{Shape, Work};
use super::inputs::{StepInputs, Weights};
use crate::outcome::{PendingTerms, StepError};

impl DeviceStep {
    /// Asks for the terms of a batch's loss, with the running statistics and no gradients. Memory grows least where batches are as large as those of
    /// training, and not at all for one with fewer images than another before, as at the end of a split.
    ///
    /// # Errors
    /// If there is no average of the weights, the inputs are on another device, or the device failed.
    pub fn evaluate(
        &mut self,
        images: Tensor<4>,
        noise: Tensor<2>,
        weights: Weights,
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
        // With given statistics no image depends on another: what else lies in the buffers of a larger batch is computed and not read.
        let larger = self
            .prepared
            .keys()
            .filter(|shape| shape.has_room_for(&own));
        let room = larger.map(|shape| shape.batch).min().unwrap_or(own.batch);
        let reading = self.ask(inputs, Shape { batch: room, ..own })?;
        Ok(PendingTerms {
            reading,
            images: own.batch,
            room,
        })
    }
}
