//! One epoch: its steps, its validation, its pictures and its checkpoint.

use std::num::NonZeroUsize;
use std::time::Instant;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Epoch};

use super::error::TrainError;
use crate::device::DeviceError;
use crate::experiment::data;
use crate::experiment::evaluate::{
    BatchScorer, EvaluationOptions, Interrupted, ModelScorer, bits_per_dim, evaluate_until,
};
use crate::experiment::model::{Model, sampler};
use crate::experiment::pictures::{write_reconstructions, write_samples};
use crate::process::progress::{EpochEnd, Progress, StepProgress};
use crate::process::stop_request::StopSignal;
use run_files::metrics::{
    EpochRates, EpochRow, EpochTiming, FurtherNumbers, TermSums, Terms, peak_memory_bytes,
};
use run_files::settings::Augment;

use super::ranks;
use super::{ActiveRun, Logs, SMALL_FILES, Training};

/// Rows of ten in the sample sheet of an epoch.
const SAMPLE_ROWS: usize = 4;
/// Images at a time in evaluation: enough to fill a device, whatever the training batch.
const EVALUATION_BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");

/// What the time of a run is estimated from, whichever comes first; a shorter epoch is enough.
const STEPS_TO_ESTIMATE: usize = 20;
const SECONDS_TO_ESTIMATE: f64 = 20.0;

/// What the steps of an epoch have in common.
pub(super) struct PresentEpoch<'a> {
    /// From 1.
    pub(super) number: u32,
    /// The images as they are shown, where they are not shown as they are in the split.
    pub(super) shown: Option<Epoch<'a>>,
}

impl Training<'_> {
    /// Trains the rest of the present epoch and ends it.
    pub(super) fn epoch(
        &self,
        mut run: ActiveRun,
        mut logs: Option<&mut Logs>,
        progress: &mut Progress,
    ) -> Result<ActiveRun, TrainError> {
        let epoch = run.state.epoch + 1;
        let began = Instant::now();
        let first_batch = run.state.batches;
        let stopped = self.train_epoch(&mut run, epoch, progress);
        let stopped = self.saved_at_loss(stopped, &mut run, progress)?;
        let mut timing = EpochTiming {
            epoch,
            train_steps: run.state.batches - first_batch,
            train_seconds: began.elapsed().as_secs_f64(),
            valid_seconds: None,
            first_step_seconds: run.clock.first_step_seconds(),
            images_per_second: 0.0,
            peak_memory_bytes: None,
        };
        if let Some(rate) = run.clock.rate(timing.train_seconds) {
            timing.images_per_second = rate.images_per_second;
        }
        if let Some(signal) = stopped {
            return Err(self.stop_here(&mut run, signal, timing, logs, progress));
        }

        if let Some(reason) = run.engine.capture_failure() {
            progress.notice_once(&format!(
                "steps are launched kernel by kernel, because they cannot be captured as a graph: {reason}"
            ));
        }
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
        let options = self.evaluation(epoch);
        let images = run.engine.images_per_pass(self.settings.batch_size);
        let of_device = EvaluationOptions {
            batch_size: images
                .and_then(NonZeroUsize::new)
                .unwrap_or(options.batch_size),
            ..options
        };
        let own = run.engine.average().map(|_| run.engine.model().valid());
        let without_average = own
            .as_ref()
            .map(|own| score(&mut ModelScorer(own), options))
            .transpose();
        let scores = without_average.and_then(|without| {
            let valid = match run.engine.device_scorer() {
                Some(mut scorer) => score(scorer.as_mut(), of_device),
                None => score(&mut ModelScorer(&model), options),
            };
            Ok((valid?, without))
        });
        let scores = match scores {
            Ok(scores) => Ok(Ok(scores)),
            Err(Interrupted::Stop(signal)) => Ok(Err(signal)),
            Err(Interrupted::Ranks(error)) => Err(error.into()),
        };
        let (valid, without_average) = match self.saved_at_loss(scores, &mut run, progress)? {
            Ok(scores) => scores,
            Err(signal) => return Err(self.stop_here(&mut run, signal, timing, logs, progress)),
        };
        let seconds = began.elapsed().as_secs_f64();
        timing.valid_seconds = Some(seconds - timing.train_seconds);
        timing.peak_memory_bytes = peak_memory_bytes();

        let train = run.state.sums.means(self.train_floor);
        let further = FurtherNumbers {
            valid_loss_without_average: without_average.map(|terms| terms.loss),
            ..self.further(&run, &train, &valid)
        };
        let state = &mut run.state;
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
        if let Some(logs) = &mut logs {
            let mut append = || Ok(logs.metrics.append(&row)?);
            state.metrics = self.persist(progress, SMALL_FILES, &mut append)?;
        }
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
        ranks::check_weights(&run.engine, epoch, &self.ranks)?;
        if let Some(logs) = logs {
            self.persist(progress, SMALL_FILES, || self.write_pictures(&model, epoch))?;
            self.save(&mut run, progress)?;
            self.persist(progress, SMALL_FILES, || Ok(logs.timing.append(&timing)?))?;
        }
        progress.epoch_ended(&EpochEnd {
            row,
            epochs: self.settings.epochs,
            seconds,
            images_per_second: timing.images_per_second,
            is_best: verdict.is_best,
            next_learning_rate,
        });
        Ok(run)
    }

    /// The numbers of a row that the settings ask for besides; they depend on the settings alone which there are.
    fn further(&self, run: &ActiveRun, train: &Terms, valid: &Terms) -> FurtherNumbers {
        let likelihood = self.settings.likelihood;
        let is_loss = self.settings.minimises_the_loss();
        let is_plain = !likelihood.is_over_levels() && is_loss;
        let objective = run.state.sums.objective();
        let last_update = run.state.updates.saturating_sub(1);
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
        run: &mut ActiveRun,
        signal: StopSignal,
        mut timing: EpochTiming,
        logs: Option<&mut Logs>,
        progress: &mut Progress,
    ) -> TrainError {
        timing.peak_memory_bytes = peak_memory_bytes();
        let saved = self.save(run, progress).and_then(|()| {
            if let Some(logs) = logs
                && timing.train_steps > 0
            {
                logs.timing.append(&timing)?;
            }
            Ok(())
        });
        match saved {
            Ok(()) => TrainError::Stopped {
                signal,
                step: run.state.step,
                run_dir: self.folder.path().to_owned(),
            },
            Err(error) => error,
        }
    }

    /// Where another rank is lost, this one still has all that the run needs to go on, and the first one saves it.
    fn saved_at_loss<T>(
        &self,
        made: Result<T, TrainError>,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<T, TrainError> {
        if let Err(TrainError::Ranks(error)) = &made
            && error.is_loss()
        {
            // Where that fails too, the checkpoint before is what there is.
            let _ = self.save(run, progress);
        }
        made
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

    /// Takes the steps that are left of an epoch, or those before someone asked to stop.
    fn train_epoch(
        &self,
        run: &mut ActiveRun,
        number: u32,
        progress: &mut Progress,
    ) -> Result<Option<StopSignal>, TrainError> {
        let began = Instant::now();
        let first_batch = run.state.batches;
        let plan = self.plan();
        let batches = run.images.train.epoch(&plan, u64::from(number));
        // A crop shows other pixels than the split has; a flip shows the same ones elsewhere.
        let is_cropped = self.settings.augment == Augment::FlipCrop && self.train_floor.is_finite();
        let epoch = PresentEpoch {
            number,
            shown: is_cropped.then(|| plan.epoch(number.into())),
        };
        let num_batches = plan.num_batches();
        run.clock.epoch_begins();
        for index in first_batch..num_batches {
            // Several ranks agree on it with the step.
            if let Some(signal) = self.stop.requested()
                && !self.ranks.are_several()
            {
                self.settle(run, &epoch)?;
                return Ok(Some(signal));
            }
            progress.passes_step(number, index + 1, num_batches);
            let images = batches.batch(index);
            let [batch, ..] = images.dims();
            self.step(run, &epoch, images)?;
            if run.clock.awaits_first_step() {
                self.wait()?;
            }
            let seconds = began.elapsed().as_secs_f64();
            if let Some(first) = run.clock.step_ends(batch, seconds) {
                progress.notice(&format!(
                    "the first step took {first:.1} s, in which kernels were compiled and tuned; no rate counts it"
                ));
            }
            let shown = || StepProgress {
                epoch: number,
                epochs: self.settings.epochs,
                step: index + 1,
                steps: num_batches,
                rate: run.clock.rate(seconds),
                seconds,
                terms: run.state.sums.means(self.train_floor),
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
                interval.is_due(run.state.step, run.last_checkpoint.elapsed().as_secs_f64())
            });
            let asked = run.engine.requests();
            let is_asked =
                asked.checkpoint || !self.ranks.are_several() && self.stop.takes_checkpoint();
            if (is_due || is_asked) && index + 1 < num_batches {
                self.settle(run, &epoch)?;
                self.save(run, progress)?;
            }
            if is_asked {
                progress.notice(&format!(
                    "asked for a checkpoint at step {}",
                    run.state.step
                ));
            }
            if let Some(signal) = StopSignal::from_number(asked.stop) {
                self.settle(run, &epoch)?;
                return Ok(Some(signal));
            }
        }
        self.settle(run, &epoch)?;
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

    pub(super) fn write_pictures(&self, model: &Model, epoch: u32) -> Result<(), TrainError> {
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
