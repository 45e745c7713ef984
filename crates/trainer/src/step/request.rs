//! What a step is asked for, and what it reports.

use run_files::divergence::NonFinite;
use run_files::metrics::BatchLoss;
use run_files::settings::Settings;
use vae_core::Sampler;

use crate::experiment::model::sampler;
use crate::step::kl_objective::KlObjective;
use crate::step::passes::pass::Inputs;

/// How all steps of an engine are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    /// Images at a time on each device; none for all.
    pub(crate) micro_batch_size: Option<usize>,
    pub(crate) sampler: Sampler,
    /// Whether backward computes the blocks again.
    pub(crate) gradient_checkpointing: bool,
    /// Times the usual norm of the gradient above which a step is skipped; none for never.
    pub(crate) skip_gradient_norm: Option<f64>,
    /// The decay of the weights' average; none for no average.
    pub(crate) average_decay: Option<f64>,
    /// Nats of each latent dimension's mean divergence that cost nothing; none for no free bits.
    #[cfg_attr(not(feature = "cube"), allow(dead_code))]
    // Only a GPU's own step asks before the first request.
    pub(crate) free_bits: Option<f64>,
    /// Kernel by kernel, where a GPU could replay a step as a graph.
    #[cfg_attr(not(feature = "cube"), allow(dead_code))] // Processors replay nothing.
    pub(crate) is_launched: bool,
}

impl EngineOptions {
    /// Those of a run with these settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            micro_batch_size: settings.micro_batch_size,
            sampler: sampler(settings),
            gradient_checkpointing: settings.gradient_checkpointing,
            skip_gradient_norm: settings.skip_gradient_norm,
            average_decay: settings.ema,
            free_bits: settings.free_bits,
            is_launched: is_replay_refused(),
        }
    }

    /// Those of a model that is scored and not trained.
    #[cfg(feature = "cube")]
    pub(crate) fn of_scores(sampler: Sampler) -> Self {
        Self {
            micro_batch_size: None,
            sampler,
            gradient_checkpointing: false,
            skip_gradient_norm: None,
            average_decay: None,
            free_bits: None,
            is_launched: is_replay_refused(),
        }
    }
}

/// Keeps a GPU from replaying steps as graphs: `off`, for drivers that cannot.
const GRAPHS: &str = "RESNET_VAE_GRAPHS";

fn is_replay_refused() -> bool {
    std::env::var(GRAPHS).is_ok_and(|choice| choice == "off")
}

/// What one step is to do.
pub(crate) struct StepRequest {
    /// Step since the run began, from 0.
    pub(crate) step: u64,
    pub(crate) inputs: Inputs,
    pub(crate) learning_rate: f64,
    /// What is minimised of the KL divergence behind the updates that are known.
    pub(crate) kl: KlObjective,
    /// Its factor behind one update more, which a step may be whose outcome is not known yet.
    #[cfg_attr(not(feature = "cube"), allow(dead_code))] // Processors know all outcomes.
    pub(crate) next_kl_weight: f64,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepReport {
    /// Step since the run began, from 0.
    pub(crate) step: u64,
    /// Images of the batch.
    pub(crate) images: usize,
    pub(crate) learning_rate: f64,
    pub(crate) loss: BatchLoss,
    /// What was minimised, as a mean over the images.
    pub(crate) objective: f64,
    pub(crate) outcome: Outcome,
}

/// Whether a step changed anything. One that was skipped changed neither weights, nor moments, nor running statistics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Taken,
    /// Skipped: its gradient was far larger than usual.
    TooLarge,
    /// Skipped: its loss or its gradient was not finite.
    NotFinite {
        cause: NonFinite,
        /// Whether there were too many of them in a row.
        stops: bool,
    },
}
