//! One step of a run: what it is asked for, and what becomes of its report.

use burn::prelude::*;
use vae_core::DropoutMasks;

use super::batches::PresentEpoch;
use super::error::TrainError;
use crate::experiment::batch_images::BatchImages;
use crate::experiment::random::{Purpose, Stream};
use crate::process::stop_request::StopSignal;
use crate::ranks::Requests;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::Inputs;
use crate::step::request::{Outcome, StepReport, StepRequest};
use run_files::divergence::{DIVERGENCE, Divergence, LargestWeight, NonFinite};
use run_files::run_folder::pretty;

use super::{ActiveRun, Training};

impl Training<'_> {
    /// Takes one step, and counts what is known of it and of those before.
    pub(super) fn step(
        &self,
        run: &mut ActiveRun,
        epoch: &PresentEpoch<'_>,
        images: BatchImages,
    ) -> Result<(), TrainError> {
        let step = run.state.step;
        let batch = images.len();
        let request = StepRequest {
            step,
            inputs: Inputs {
                images,
                noise: self.noise(step, batch),
                dropout: self.dropout(step, batch),
            },
            learning_rate: run.state.schedule.learning_rate_at(self.settings, step),
            kl: self.kl_objective(run.state.updates),
            next_kl_weight: self.kl_objective(run.state.updates + 1).weight,
        };
        run.engine.ask(self.requests());
        let report = run
            .engine
            .step(request, &mut run.state.guard, &self.faults)?;
        run.state.step += 1;
        run.state.batches += 1;
        self.count(run, epoch, report)
    }

    /// What this rank asks all for.
    fn requests(&self) -> Requests {
        if !self.ranks.are_several() {
            return Requests::default();
        }
        Requests {
            stop: self.stop.requested().map_or(0, StopSignal::number),
            checkpoint: self.stop.takes_checkpoint(),
        }
    }

    /// Counts the last step of all, where its outcome was still open. The run can be saved then.
    pub(super) fn catch_up(
        &self,
        run: &mut ActiveRun,
        epoch: &PresentEpoch<'_>,
    ) -> Result<(), TrainError> {
        let report = run.engine.catch_up(&mut run.state.guard);
        self.count(run, epoch, report)
    }

    /// As [`catch_up`](Self::catch_up), and the engine's model is the present one.
    pub(super) fn settle(
        &self,
        run: &mut ActiveRun,
        epoch: &PresentEpoch<'_>,
    ) -> Result<(), TrainError> {
        let report = run.engine.settle(&mut run.state.guard);
        self.count(run, epoch, report)
    }

    /// Adds a step that was taken to the numbers of the epoch; after too many that were not finite, training stops.
    fn count(
        &self,
        run: &mut ActiveRun,
        epoch: &PresentEpoch<'_>,
        report: Option<StepReport>,
    ) -> Result<(), TrainError> {
        let Some(report) = report else {
            return Ok(());
        };
        match &report.outcome {
            Outcome::Taken => {}
            Outcome::NotFinite { cause, stops: true } => {
                return Err(self.diverged(run, epoch.number, &report, cause)?);
            }
            Outcome::TooLarge | Outcome::NotFinite { .. } => return Ok(()),
        }
        let state = &mut run.state;
        state.updates += 1;
        state.rates.add(report.learning_rate);
        let first_step = state.step - state.batches as u64;
        match &epoch.shown {
            Some(shown) => {
                let floor = shown.pixel_entropy((report.step - first_step) as usize);
                state.sums.add_changed(report.loss, report.images, floor);
            }
            None => state.sums.add(report.loss, report.images),
        }
        if !self.settings.minimises_the_loss() {
            state.sums.add_objective(report.objective, report.images);
        }
        Ok(())
    }

    /// Writes what is known of a training that stops, and gives the error that it stops with.
    fn diverged(
        &self,
        run: &ActiveRun,
        epoch: u32,
        report: &StepReport,
        cause: &NonFinite,
    ) -> Result<TrainError, TrainError> {
        let StepReport {
            step,
            learning_rate,
            ..
        } = *report;
        let guard = &run.state.guard;
        let divergence = Divergence {
            epoch,
            step,
            learning_rate,
            cause: cause.clone(),
            largest_weight: largest_weight(run),
            skipped_in_a_row: guard.non_finite_in_row,
            skipped: guard.skipped,
            last_losses: guard.recent_losses.iter().collect(),
        };
        let divergence = serde_json::to_value(&divergence).expect("numbers and names serialise");
        if self.ranks.is_first() {
            self.folder.write(DIVERGENCE, &pretty(&divergence))?;
        }
        Ok(TrainError::Diverged {
            epoch,
            step,
            in_row: guard.non_finite_in_row,
            cause: cause.to_string(),
            report: self.folder.join(DIVERGENCE),
            run_dir: self.folder.path().to_owned(),
            smaller_rate: run.state.schedule.smaller_rate(self.settings),
        })
    }

    /// What the update after so many of them minimises of the KL divergence.
    pub(super) fn kl_objective(&self, updates: u64) -> KlObjective {
        KlObjective {
            weight: self.settings.beta * self.settings.kl_warmup.weight(updates),
            free_bits: self.settings.free_bits,
        }
    }

    fn noise(&self, step: u64, batch: usize) -> Tensor<2> {
        let latent_dim = self.settings.latent_dim;
        let noise = Stream::new(self.settings.seed, Purpose::TrainingNoise, step)
            .standard_normal(batch * latent_dim);
        Tensor::from_data(TensorData::new(noise, [batch, latent_dim]), &self.device)
    }

    fn dropout(&self, step: u64, batch: usize) -> Option<DropoutMasks> {
        if self.settings.dropout == 0.0 {
            return None;
        }
        let mut stream = Stream::new(self.settings.seed, Purpose::Dropout, step);
        let mut uniform = |features: usize| {
            let draws = stream.uniform(batch * features);
            Tensor::<2>::from_data(TensorData::new(draws, [batch, features]), &self.device)
        };
        let [encoder, decoder] = self.config.dropout_features();
        // In this order from one stream.
        let encoder = uniform(encoder);
        let decoder = uniform(decoder);
        let probability = self.settings.dropout;
        Some(DropoutMasks::from_uniform(encoder, decoder, probability))
    }
}

fn largest_weight(run: &ActiveRun) -> Option<LargestWeight> {
    let values = run.engine.weights();
    let largest = values.into_iter().map(|(name, (_, values))| LargestWeight {
        name,
        magnitude: values
            .iter()
            .fold(0.0, |largest, value| value.abs().max(largest)),
    });
    largest.max_by(|a, b| a.magnitude.total_cmp(&b.magnitude))
}
