//! The evaluation of a batch, in the buffers of a full one.

use burn::prelude::Tensor;

use super::DeviceStep;
use super::buffers::Work;
use super::inputs::Weights;
use crate::outcome::{PendingTerms, StepError};
use crate::resident::StepImages;

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
        images: impl Into<StepImages>,
        noise: Tensor<2>,
        weights: Weights,
        batch_size: usize,
    ) -> Result<PendingTerms, StepError> {
        if weights == Weights::Averaged && self.averaged.is_none() {
            return Err(StepError("no average of the weights is kept".to_owned()));
        }
        let images = images.into();
        let [batch, ..] = images.dims();
        // With given statistics no image depends on another: what else lies in a full batch's buffers is computed and not read.
        let room = batch.max(batch_size);
        let reading = self.ask_in_room(images, noise, Work::Evaluation(weights), room)?;
        Ok(PendingTerms {
            reading,
            images: batch,
            room,
        })
    }
}
