//! One epoch: its steps, its validation, its pictures and its checkpoint.

use std::num::NonZeroUsize;
use std::time::Instant;

use burn::prelude::*;
use cifar_loader::BatchPlan;
use vae_core::Vae;

use super::error::TrainError;
use crate::device::DeviceError;
use crate::experiment::data;
use crate::experiment::evaluate::{EvaluationOptions, bits_per_dim, evaluate_until};
use crate::experiment::model::sampler;
use crate::experiment::pictures::{write_reconstructions, write_samples};
use crate::process::progress::{EpochEnd, Progress, StepProgress};
use crate::process::stop_request::StopSignal;
use run_files::metrics::{
    EpochRates, EpochRow, EpochTiming, FurtherNumbers, TermSums, Terms, peak_memory_bytes,
};
use run_files::settings::Augment;

use super::{Logs, Progressing, SMALL_FILES, Training};

/// Rows of ten in the sample sheet of an epoch.
const SAMPLE_ROWS: usize = 4;
/// Images at a time in evaluation: enough to fill a device, whatever the training batch.
const EVALUATION_BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

/// What the time of a run is estimated from, whichever comes first; a shorter epoch is enough.
const STEPS_TO_ESTIMATE: usize = 20;
const SECONDS_TO_ESTIMATE: f64 = 20.0;

impl Training<'_> {
    /// Trains the rest of the present epoch and ends it.
    pub(super) fn epoch(
        &self,
        mut now: Progressing,
        logs: &mut Logs,
        progress: &mut Progress,
    ) -> Result<Progressing, TrainError> {
        let epoch = now.state.epoch + 1;
        let began = Instant::now();
        let first_batch = now.state.batches;
        let stopped = self.train_epoch(&mut now, epoch, progress)?;
        let mut timing = EpochTiming {
            epoch,
            train_steps: now.state.batches - first_batch,
            train_seconds: began.elapsed().as_secs_f64(),
            valid_seconds: None,
            first_step_seconds: now.clock.first_step_seconds(),
            images_per_second: 0.0,
            peak_memory_bytes: None,
        };
        if let Some(rate) = now.clock.rate(timing.train_seconds) {
            timing.images_per_second = rate.images_per_second;
        }
        if let Some(signal) = stopped {
            return Err(self.stop_here(&mut now, signal, timing, logs, progress));
        }

        let own = now.model.valid();
        let model = match &now.average {
            Some(average) => average.model().clone(),
            None => own.clone(),
        };
        let of = self.splits.valid.len();
        let mut score = |model: &Vae| {
            evaluate_until(
                model,
                &now.images.valid,
                self.valid_floor,
                self.evaluation(epoch),
                self.stop,
                &mut |done| progress.evaluated("validation", done, of),
            )
        };
        let without_average = now.average.as_ref().map(|_| score(&own)).transpose();
        let scores = without_average.and_then(|without| Ok((score(&model)?, without)));
        let (valid, without_average) = match scores {
            Ok(scores) => scores,
            Err(signal) => return Err(self.stop_here(&mut now, signal, timing, logs, progress)),
        };
        let seconds = began.elapsed().as_secs_f64();
        timing.valid_seconds = Some(seconds - timing.train_seconds);
        timing.peak_memory_bytes = peak_memory_bytes();

        let train = now.state.sums.means(self.train_floor);
        let further = FurtherNumbers {
            valid_loss_without_average: without_average.map(|terms| terms.loss),
            ..self.further(&now, &train, &valid)
        };
        let state = &mut now.state;
        let row = EpochRow {
            epoch,
            train,
            valid,
            learning_rate: state.rates.mean(),
            last_learning_rate: state.rates.last(),
            skipped_steps: state.guard.skipped_in_epoch,
            further,
        };
        let verdict = state.schedule.epoch_ended(self.settings, epoch, valid.loss);
        state.metrics = self.persist(progress, SMALL_FILES, || Ok(logs.metrics.append(&row)?))?;
        state.epoch = epoch;
        state.batches = 0;
        state.sums = TermSums::default();
        state.rates = EpochRates::default();
        state.guard.skipped_in_epoch = 0;
        state.stopped = verdict.stop;
        if verdict.is_best {
            state.best = Some(state.position());
        }
        let next_learning_rate = state.schedule.learning_rate_at(self.settings, state.step);
        self.persist(progress, SMALL_FILES, || self.write_pictures(&model, epoch))?;
        self.save(&mut now, progress)?;
        self.persist(progress, SMALL_FILES, || Ok(logs.timing.append(&timing)?))?;
        progress.epoch_ended(&EpochEnd {
            row,
            epochs: self.settings.epochs,
            seconds,
            images_per_second: timing.images_per_second,
            is_best: verdict.is_best,
            next_learning_rate,
        });
        Ok(now)
    }

    /// The numbers of a row that the settings ask for besides; they depend on the settings alone which there are.
    fn further(&self, now: &Progressing, train: &Terms, valid: &Terms) -> FurtherNumbers {
        let likelihood = self.settings.likelihood;
        let is_loss = self.settings.minimises_the_loss();
        let is_plain = !likelihood.is_over_levels() && is_loss;
        let objective = now.state.sums.objective();
        let last_update = now.state.updates.saturating_sub(1);
        FurtherNumbers {
            train_bits_per_dim: bits_per_dim(likelihood, train),
            valid_bits_per_dim: bits_per_dim(likelihood, valid),
            train_objective: (!is_loss).then(|| objective.unwrap_or(f64::NAN)),
            kl_weight: (!is_loss).then(|| self.kl_objective(last_update).weight),
            valid_elbo: (!is_plain).then(|| -(valid.cross_entropy + valid.kl)),
            ..FurtherNumbers::default()
        }
    }

    /// The keys of those numbers.
    pub(super) fn further_keys(&self) -> Vec<&'static str> {
        let likelihood = self.settings.likelihood;
        let is_loss = self.settings.minimises_the_loss();
        let is_plain = !likelihood.is_over_levels() && is_loss;
        let number = |is_there: bool| is_there.then_some(0.0);
        let all = FurtherNumbers {
            train_bits_per_dim: number(likelihood.is_over_levels()),
            valid_bits_per_dim: number(likelihood.is_over_levels()),
            train_objective: number(!is_loss),
            kl_weight: number(!is_loss),
            valid_elbo: number(!is_plain),
            valid_loss_without_average: number(self.settings.ema.is_some()),
        };
        all.present().map(|(key, _)| key).collect()
    }

    /// Saves what there is of a run that someone asked to stop.
    fn stop_here(
        &self,
        now: &mut Progressing,
        signal: StopSignal,
        mut timing: EpochTiming,
        logs: &mut Logs,
        progress: &mut Progress,
    ) -> TrainError {
        timing.peak_memory_bytes = peak_memory_bytes();
        let saved = self.save(now, progress).and_then(|()| {
            if timing.train_steps > 0 {
                logs.timing.append(&timing)?;
            }
            Ok(())
        });
        match saved {
            Ok(()) => TrainError::Stopped {
                signal,
                step: now.state.step,
                run_dir: self.folder.path().to_owned(),
            },
            Err(error) => error,
        }
    }

    fn plan(&self) -> BatchPlan {
        let batch_size =
            NonZeroUsize::new(self.settings.batch_size).expect("validated settings have a batch");
        BatchPlan::training(
            self.splits.train.clone(),
            batch_size,
            self.settings.seed,
            data::augment(self.settings),
        )
    }

    /// Makes the steps that are left of the epoch, or those before someone asked to stop.
    fn train_epoch(
        &self,
        now: &mut Progressing,
        epoch: u32,
        progress: &mut Progress,
    ) -> Result<Option<StopSignal>, TrainError> {
        let began = Instant::now();
        let first_batch = now.state.batches;
        let plan = self.plan();
        let batches = now.images.train.epoch(&plan, u64::from(epoch));
        // A crop shows other pixels than the split has; a flip shows the same ones elsewhere.
        let cropped = (self.settings.augment == Augment::FlipCrop && self.train_floor.is_finite())
            .then(|| plan.epoch(epoch.into()));
        let num_batches = plan.num_batches();
        now.clock.epoch_begins();
        for index in first_batch..num_batches {
            if let Some(signal) = self.stop.requested() {
                return Ok(Some(signal));
            }
            progress.passes_step(epoch, index + 1, num_batches);
            let images = batches.batch(index);
            let [batch, ..] = images.dims();
            if let Some(terms) = self.step(now, epoch, images)? {
                match &cropped {
                    Some(shown) => {
                        let floor = shown.pixel_entropy(index);
                        now.state.sums.add_changed(terms, batch, floor);
                    }
                    None => now.state.sums.add(terms, batch),
                }
            }
            now.state.batches = index + 1;
            if now.clock.awaits_first_step() {
                self.wait()?;
            }
            let seconds = began.elapsed().as_secs_f64();
            if let Some(first) = now.clock.step_ends(batch, seconds) {
                progress.notice(&format!(
                    "the first step took {first:.1} s, in which kernels were compiled and tuned; no rate counts it"
                ));
            }
            let shown = || StepProgress {
                epoch,
                epochs: self.settings.epochs,
                step: index + 1,
                steps: num_batches,
                rate: now.clock.rate(seconds),
                seconds,
                terms: now.state.sums.means(self.train_floor),
            };
            let steps = index + 1 - first_batch;
            if steps >= STEPS_TO_ESTIMATE
                || seconds >= SECONDS_TO_ESTIMATE
                || index + 1 == num_batches
            {
                progress.estimate(&shown());
            }
            if progress.step_due(seconds) {
                progress.step(&shown());
            }
            // The end of the epoch has a checkpoint of its own.
            let is_due = self.settings.checkpoint_every.is_some_and(|interval| {
                interval.is_due(now.state.step, now.last_checkpoint.elapsed().as_secs_f64())
            });
            let is_asked = self.stop.takes_checkpoint();
            if (is_due || is_asked) && index + 1 < num_batches {
                self.save(now, progress)?;
            }
            if is_asked {
                progress.notice(&format!(
                    "asked for a checkpoint at step {}",
                    now.state.step
                ));
            }
        }
        Ok(None)
    }

    /// Waits until the device has done all that it was asked for.
    fn wait(&self) -> Result<(), TrainError> {
        self.device.sync().map_err(|error| DeviceError::Lost {
            device: self.settings.device.main(),
            reason: error.to_string(),
        })?;
        Ok(())
    }

    /// How a split is scored after an epoch; epoch 0 stands for the final score.
    pub(super) fn evaluation(&self, epoch: u32) -> EvaluationOptions {
        EvaluationOptions {
            batch_size: EVALUATION_BATCH,
            sampler: sampler(self.settings),
            seed: self.settings.seed,
            draw: epoch,
        }
    }

    pub(super) fn write_pictures(&self, model: &Vae, epoch: u32) -> Result<(), TrainError> {
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
        write_reconstructions(model, &self.splits.valid, &reconstructions, &self.device)?;
        Ok(())
    }
}
