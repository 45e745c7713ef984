//! What a step is given.

use burn::prelude::Tensor;
use vae_core::{DropoutMasks, Sampler};

use crate::factors::AdamOptions;
use crate::kernels::optimizer::POSSIBLE_COUNTS;
use crate::resident::StepImages;

/// What does not change from step to step.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// Constants of the optimizer.
    pub adam: AdamOptions,
    /// How latents are drawn.
    pub sampler: Sampler,
    /// The decay of the exponential moving average of weights and running statistics, which is warmed up; none for no average.
    pub average_decay: Option<f64>,
    /// Nats that each latent dimension's mean divergence over a batch may have without cost (Kingma et al. 2016); none for no free bits.
    pub free_bits: Option<f64>,
    /// Whether backward computes every block again, so that only the blocks' inputs are kept.
    pub is_recomputed: bool,
    /// Whether steps are captured as a graph and replayed, where the device can.
    pub is_captured: bool,
}

/// A batch, on the device; images that lie there already are taken by the step itself.
pub struct StepInputs {
    /// What the autoencoder sees and is to show again.
    pub images: StepImages,
    /// `[batch, latent_dim]`, standard normal
    pub noise: Tensor<2>,
    /// What multiplies the intermediate features; none for no dropout.
    pub dropout: Option<DropoutMasks>,
}

/// What the host decides about a step.
#[derive(Clone, Copy, Debug)]
pub struct StepRates {
    /// Adam's.
    pub learning_rate: f64,
    /// What the objective multiplies the KL divergence with: behind as many updates as have been observed, and behind one, two and three more,
    /// which steps under way may be.
    pub kl_weights: [f64; POSSIBLE_COUNTS],
    /// The step is skipped where the gradient's norm is larger.
    pub largest_norm: Option<f64>,
}

/// Which of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// Those that are trained.
    Trained,
    /// Their average.
    Averaged,
}
