//! A batch's images: a tensor, or which of those that lie on a GPU.

use std::ops::Range;
#[cfg(feature = "cube")]
use std::sync::Arc;

use burn::prelude::*;
#[cfg(feature = "cube")]
use vae_device_step::{Pick, ResidentImages, StepImages};

/// Images of a batch, in \[0, 1\].
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // One a step, which is not kept.
pub(crate) enum BatchImages {
    /// `[batch, 3, 32, 32]`
    Made(Tensor<4>),
    /// Those that a GPU's own step takes from the ones that lie there.
    #[cfg(feature = "cube")]
    Resident(ResidentBatch),
}

/// Which of a GPU's images.
#[cfg(feature = "cube")]
#[derive(Clone)]
pub(crate) struct ResidentBatch {
    pub(crate) images: Arc<ResidentImages>,
    pub(crate) picks: Vec<Pick>,
    /// With its autodiff.
    pub(crate) device: Device,
}

impl From<Tensor<4>> for BatchImages {
    fn from(images: Tensor<4>) -> Self {
        Self::Made(images)
    }
}

impl BatchImages {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Made(images) => images.dims()[0],
            #[cfg(feature = "cube")]
            Self::Resident(batch) => batch.picks.len(),
        }
    }

    /// `[batch, 3, 32, 32]`
    pub(crate) fn tensor(self) -> Tensor<4> {
        match self {
            Self::Made(images) => images,
            #[cfg(feature = "cube")]
            Self::Resident(batch) => {
                let images = batch.images.tensor(&batch.picks);
                match batch.device.is_autodiff() {
                    true => Tensor::from_inner(images),
                    false => images,
                }
            }
        }
    }

    /// Those of a range.
    pub(crate) fn slice(&self, range: &Range<usize>) -> Self {
        match self {
            Self::Made(images) => Self::Made(images.clone().narrow(0, range.start, range.len())),
            #[cfg(feature = "cube")]
            Self::Resident(batch) => Self::Resident(ResidentBatch {
                picks: batch.picks[range.clone()].to_vec(),
                ..batch.clone()
            }),
        }
    }

    /// As a GPU's own step takes them, without autodiff.
    #[cfg(feature = "cube")]
    pub(crate) fn for_step(self) -> StepImages {
        match self {
            Self::Made(images) if images.device().is_autodiff() => images.inner().into(),
            Self::Made(images) => images.into(),
            Self::Resident(batch) => StepImages::Resident(batch.images, batch.picks),
        }
    }
}
