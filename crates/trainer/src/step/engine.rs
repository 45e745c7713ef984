//! A model with its optimizer, and the step that timing, scaling and the check of determinism take: the one of training on a single
//! device and an undivided batch, without its guard against values that are not finite.

use vae_core::Vae;

use crate::experiment::evaluate::read_terms;
use crate::step::adam::Adam;
use crate::step::block_checkpointing::{Forward, ForwardInputs};
use crate::step::gradient_norms::GradientNorms;
use run_files::metrics::BatchLoss;

/// A part of a step that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The forward pass, and reading the loss.
    Forward,
    /// The backward pass, and the norms of the gradients.
    Backward,
    /// The optimizer.
    Optimizer,
}

/// A model and its optimizer.
pub(crate) struct Engine {
    pub(crate) model: Vae,
    adam: Adam,
}

impl Engine {
    /// Before the first step.
    pub(crate) fn new(model: Vae) -> Self {
        Self {
            model,
            adam: Adam::new(),
        }
    }

    /// Takes a step, and gives its loss.
    ///
    /// # Errors
    /// What `ended` gives, which is called at the end of each phase.
    pub(crate) fn step<E>(
        &mut self,
        inputs: ForwardInputs,
        gradient_checkpointing: bool,
        learning_rate: f64,
        mut ended: impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<BatchLoss, E> {
        let forward = Forward::new(&self.model, inputs, gradient_checkpointing);
        let terms = read_terms(forward.terms());
        ended(Phase::Forward)?;
        let gradients = forward.backward(&self.model);
        // Training looks at every gradient before it takes a step.
        GradientNorms::read(&self.model, &gradients);
        ended(Phase::Backward)?;
        self.model = self.adam.step(self.model.clone(), gradients, learning_rate);
        ended(Phase::Optimizer)?;
        Ok(terms)
    }

    /// The forward pass alone, as an evaluation makes it where the model is `valid()`.
    ///
    /// # Errors
    /// What `ended` gives.
    pub(crate) fn evaluate<E>(
        &self,
        inputs: ForwardInputs,
        mut ended: impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<BatchLoss, E> {
        let forward = Forward::new(&self.model, inputs, false);
        let terms = read_terms(forward.terms());
        ended(Phase::Forward)?;
        Ok(terms)
    }
}
