//! What ends an epoch besides its checkpoint: the score of the held-out images, and pictures.

use std::num::NonZeroUsize;

use burn::module::Module;
use run_files::metrics::Terms;

use super::error::TrainError;
use super::{ActiveRun, Training};
use crate::experiment::evaluate::{
    BatchScorer, EvaluationOptions, Interrupted, ModelScorer, evaluate_until,
};
use crate::experiment::model::{Model, sampler};
use crate::experiment::pictures::{write_reconstructions_of, write_samples};
use crate::experiment::split_images::SplitImages;
use crate::process::progress::Progress;
use crate::process::stop_request::StopSignal;
use crate::step::engine::Engine;
use crate::step::weight_average::Weights;

/// Rows of ten in the sample sheet of an epoch.
const SAMPLE_ROWS: usize = 4;
/// Images at a time in evaluation: enough to fill a device, whatever the training batch.
const EVALUATION_BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

/// How a model scores.
pub(super) struct Scores {
    /// The model that was scored: with the average of the weights where one is kept.
    pub(super) model: Model,
    pub(super) terms: ValidationTerms,
}

/// The terms of the held-out images.
#[derive(Clone, Copy)]
pub(super) struct ValidationTerms {
    pub(super) of_scored: Terms,
    /// With the weights themselves, where the score is that of their average.
    pub(super) without_average: Option<Terms>,
}

impl Training<'_> {
    /// Scores the held-out images, or says who asked to stop.
    pub(super) fn validate(
        &self,
        run: &mut ActiveRun,
        epoch: u32,
        progress: &mut Progress,
    ) -> Result<Result<Scores, StopSignal>, TrainError> {
        let model = run.engine.scored_model();
        let of = self.splits.valid.len();
        let mut score = |scorer: &mut dyn BatchScorer, options| {
            evaluate_until(
                scorer,
                &run.images.valid,
                self.valid_floor,
                options,
                (self.stop, &self.ranks),
                &mut |done| progress.evaluated("validation", done, of),
            )
        };
        let options = self.evaluation(&model, epoch);
        let of_device = self.device_evaluation(&run.engine, options);
        let mut score_weights = |engine: &mut Engine, weights| {
            if let Some(mut scorer) = engine.device_scorer(weights) {
                return score(scorer.as_mut(), of_device);
            }
            match weights {
                Weights::Averaged => score(&mut ModelScorer(&model), options),
                Weights::Trained => score(&mut ModelScorer(&engine.model().valid()), options),
            }
        };
        let scored = run.engine.scored_weights();
        let mut terms = || {
            let without_average = (scored == Weights::Averaged)
                .then(|| score_weights(&mut run.engine, Weights::Trained))
                .transpose()?;
            Ok(ValidationTerms {
                of_scored: score_weights(&mut run.engine, scored)?,
                without_average,
            })
        };
        match terms() {
            Ok(terms) => Ok(Ok(Scores { model, terms })),
            Err(Interrupted::Stop(signal)) => Ok(Err(signal)),
            Err(Interrupted::Ranks(error)) => Err(error.into()),
        }
    }

    /// How a split is scored after an epoch; epoch 0 stands for the final score.
    pub(super) fn evaluation(&self, model: &Model, epoch: u32) -> EvaluationOptions {
        EvaluationOptions {
            // As many as the device has buffers for.
            batch_size: model.at_a_time(EVALUATION_BATCH, &self.device),
            sampler: sampler(self.settings),
            seed: self.settings.seed,
            draw: epoch,
        }
    }

    /// The same where a device scores in the buffers of its training: with as many images at a time as these are for.
    pub(super) fn device_evaluation(
        &self,
        engine: &Engine,
        options: EvaluationOptions,
    ) -> EvaluationOptions {
        let images = engine.images_per_pass(self.settings.batch_size);
        let images = images.and_then(NonZeroUsize::new);
        EvaluationOptions {
            batch_size: images.unwrap_or(options.batch_size),
            ..options
        }
    }

    /// Samples, and reconstructions of these images.
    pub(super) fn write_pictures(
        &self,
        model: &Model,
        images: &SplitImages,
        epoch: u32,
    ) -> Result<(), TrainError> {
        let name = format!("epoch-{epoch:04}.png");
        let samples = self.folder.join("samples").join(&name);
        write_samples(
            model,
            SAMPLE_ROWS,
            self.settings.seed,
            0,
            &samples,
            &self.device,
        )?;
        let reconstructions = self.folder.join("reconstructions").join(&name);
        write_reconstructions_of(model, images, &reconstructions)?;
        Ok(())
    }
}
