//! What the host reads of a step, when it has the time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cubecl::prelude::*;

use crate::kernels::optimizer::{
    RECORD_FREE_BITS, RECORD_NOT_FINITE, RECORD_PARAMETERS, RECORD_PENALTY, RECORD_SQUARED_NORM,
    RECORD_TAKEN, RECORD_UPDATES,
};

/// A step cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError(pub(crate) String);

impl std::fmt::Display for StepError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "the device's step failed: {}", self.0)
    }
}

impl std::error::Error for StepError {}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Sum of the images' cross-entropies (negative log-probabilities), in nats.
    pub cross_entropy: f64,
    /// Sum of the images' KL divergences, in nats.
    pub kl: f64,
    /// The KL divergence as an objective with free bits has it, before its weight: nats an image. None without free bits, and of a step that was
    /// given its gradients.
    pub kl_with_free_bits: Option<f64>,
    /// The penalties, in nats.
    pub l2: f64,
    /// Of the gradient of the objective's mean over the batch.
    pub gradient_norm: f64,
    /// Whether weights, moments and running statistics have changed.
    pub is_taken: bool,
    /// Steps taken since the optimizer's start, this one included.
    pub updates: u64,
    /// The first parameter, in the model's order, whose gradient is not finite.
    pub not_finite: Option<String>,
    /// How many parameters' gradients are not finite.
    pub not_finite_parameters: usize,
}

pub(crate) type Reading =
    Pin<Box<dyn Future<Output = Result<Vec<cubecl::bytes::Bytes>, String>> + Send>>;

/// A step that the device has been asked for.
pub struct Pending {
    pub(crate) reading: Reading,
    pub(crate) batch: usize,
    /// Whether the device has decided what each latent dimension counts.
    pub(crate) has_free_bits: bool,
    /// Whose each chunk of the gradient is.
    pub(crate) chunk_names: Arc<Vec<String>>,
}

impl Pending {
    /// Waits until the step has ended; steps asked for meanwhile are not waited for.
    ///
    /// # Errors
    /// If the device failed.
    pub fn wait(self) -> Result<Outcome, StepError> {
        let values = read(self.reading)?;
        let (terms, ending) = values.split_at(2 * self.batch);
        let BatchTerms { cross_entropy, kl } = BatchTerms::of(terms, self.batch);
        let chunk = ending[RECORD_NOT_FINITE] as usize;
        Ok(Outcome {
            cross_entropy,
            kl,
            kl_with_free_bits: self
                .has_free_bits
                .then(|| f64::from(ending[RECORD_FREE_BITS])),
            l2: f64::from(ending[RECORD_PENALTY]),
            gradient_norm: f64::from(ending[RECORD_SQUARED_NORM]).sqrt(),
            is_taken: ending[RECORD_TAKEN] > 0.5,
            updates: ending[RECORD_UPDATES] as u64,
            not_finite_parameters: ending[RECORD_PARAMETERS] as usize,
            not_finite: (chunk > 0).then(|| self.chunk_names[chunk - 1].clone()),
        })
    }
}

/// What the loss of a batch consists of, but for the penalties, which are the weights' own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchTerms {
    /// Sum of the images' cross-entropies (negative log-probabilities), in nats.
    pub cross_entropy: f64,
    /// Sum of the images' KL divergences, in nats.
    pub kl: f64,
}

impl BatchTerms {
    /// Of the first so many images, from the cross-entropies of all and their divergences behind them.
    pub(crate) fn of(terms: &[f32], images: usize) -> Self {
        let sum = |values: &[f32]| {
            let values = values[..images].iter();
            values.map(|value| f64::from(*value)).sum::<f64>()
        };
        let (cross_entropies, divergences) = terms.split_at(terms.len() / 2);
        Self {
            cross_entropy: sum(cross_entropies),
            kl: sum(divergences),
        }
    }
}

/// An evaluation that the device has been asked for.
pub struct PendingTerms {
    pub(crate) reading: Reading,
    pub(crate) images: usize,
    /// Of whose terms there is room in what is read.
    pub(crate) room: usize,
}

impl PendingTerms {
    /// Waits until it has ended; what was asked for meanwhile is not waited for.
    ///
    /// # Errors
    /// If the device failed.
    pub fn wait(self) -> Result<BatchTerms, StepError> {
        let values = read(self.reading)?;
        Ok(BatchTerms::of(&values[..2 * self.room], self.images))
    }
}

/// What the device has been asked of each image of a batch.
pub struct PendingImageTerms {
    pub(crate) reading: Reading,
    pub(crate) images: usize,
}

impl PendingImageTerms {
    /// Waits until it has ended: the images' negative log-probabilities, in nats.
    ///
    /// # Errors
    /// If the device failed.
    pub fn wait(self) -> Result<Vec<f32>, StepError> {
        let mut values = read(self.reading)?;
        values.truncate(self.images);
        Ok(values)
    }
}

pub(crate) fn read(reading: Reading) -> Result<Vec<f32>, StepError> {
    let bytes = cubecl::future::block_on(reading).map_err(StepError)?;
    Ok(f32::from_bytes(&bytes[0]).to_vec())
}
