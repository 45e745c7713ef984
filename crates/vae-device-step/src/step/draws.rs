//! Draws from the posteriors of a batch, whose encoder runs once.

use burn::prelude::Tensor;
use resnet_blocks::cube::{Matrix, Queue, Vector32};

use super::DeviceStep;
use super::buffers::{Shape, Work};
use super::inputs::StepInputs;
use crate::flat::{create, read};
use crate::network::Posterior;
use crate::outcome::{PendingImageTerms, Reading, StepError};
use crate::resident::StepImages;

/// What the draws of a size of batch need.
pub(super) struct KeptPosterior {
    pub(super) posterior: Posterior,
    /// A zero for each latent dimension.
    pub(super) no_bias: Vector32,
}

/// The posterior of each image of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Posteriors {
    /// `[batch, latent_dim]`, row by row.
    pub mean: Vec<f32>,
    /// Natural logarithm of the variance; as the mean.
    pub log_variance: Vec<f32>,
}

impl DeviceStep {
    /// Computes the posteriors of a batch, with the running statistics, and keeps them for [`draw`](Self::draw). Waits for the device.
    ///
    /// A full batch has `batch_size` images, as in [`evaluate`](Self::evaluate).
    ///
    /// # Errors
    /// If the images are on another device, or the device failed.
    pub fn encode(
        &mut self,
        images: impl Into<StepImages>,
        batch_size: usize,
    ) -> Result<Posteriors, StepError> {
        let images = images.into();
        let [batch, ..] = images.dims();
        let (room, latent_dim) = (batch.max(batch_size), self.network.latent_dim);
        if !self.posteriors.contains_key(&room) {
            let client = self.client();
            let kept = client.memory_persistent_allocation((), |()| KeptPosterior {
                posterior: Posterior::empty(&Queue::new(client.clone()), room, latent_dim),
                no_bias: Vector32 {
                    len: latent_dim,
                    buffer: create(client, &vec![0.0; latent_dim]).into(),
                },
            });
            self.posteriors.insert(room, kept);
        }
        // The kernel draws besides, which nobody reads.
        let noise = Tensor::zeros([batch, latent_dim], &images.device());
        let terms = self.ask_in_room(images, noise, Work::Posterior, room)?;
        // What is asked for has to be waited for.
        crate::outcome::read(terms)?;
        let kept = &self.posteriors[&room].posterior;
        let read = |matrix: &Matrix| {
            let mut values = read(self.client(), &matrix.buffer.handle()).map_err(StepError)?;
            values.truncate(batch * latent_dim);
            Ok(values)
        };
        Ok(Posteriors {
            mean: read(&kept.mean)?,
            log_variance: read(&kept.log_variance)?,
        })
    }

    /// Asks for the negative log-probability of each image of a batch, given a draw from the posteriors that were [encoded](Self::encode) last.
    ///
    /// # Shapes
    /// - noise: `[batch, latent_dim]`, standard normal
    ///
    /// # Errors
    /// If none have been encoded for batches of that size, the inputs are on another device, or the device failed.
    pub fn draw(
        &mut self,
        images: impl Into<StepImages>,
        noise: Tensor<2>,
        batch_size: usize,
    ) -> Result<PendingImageTerms, StepError> {
        let images = images.into();
        let [batch, ..] = images.dims();
        let room = batch.max(batch_size);
        if !self.posteriors.contains_key(&room) {
            let text = format!("no posteriors of {room} images have been encoded");
            return Err(StepError(text));
        }
        let reading = self.ask_in_room(images, noise, Work::Draw, room)?;
        Ok(PendingImageTerms {
            reading,
            images: batch,
        })
    }

    /// Has something done with a batch in the buffers of one of so many images.
    pub(super) fn ask_in_room(
        &mut self,
        images: StepImages,
        noise: Tensor<2>,
        work: Work,
        room: usize,
    ) -> Result<Reading, StepError> {
        let inputs = StepInputs {
            images,
            noise,
            dropout: None,
        };
        let own = Shape::of(&inputs, work);
        self.ask(inputs, Shape { batch: room, ..own })
    }
}
