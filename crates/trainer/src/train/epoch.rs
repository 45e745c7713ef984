//! One epoch, as the experiment has it: its steps, its validation, its row of metrics, its pictures and its checkpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use run_files::metrics::{EpochTiming, peak_memory_bytes};

use super::error::TrainError;
use super::room::SMALL_FILES;
use super::validation::Scores;
use super::{ActiveRun, Logs, Training, ranks};
use crate::process::progress::{EpochEnd, Progress};
use crate::process::stop_request::StopSignal;
use crate::ranks::RanksError;

impl Training<'_> {
    /// Trains the rest of the present epoch and ends it.
    pub(super) fn epoch(
        &self,
        run: &mut ActiveRun,
        mut logs: Option<&mut Logs>,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        let epoch = run.state.epoch + 1;
        let began = Instant::now();
        let first_batch = run.state.batches;

        let stopped = self.train_epoch(run, epoch, progress);
        let stopped = self.saved_at_loss(stopped, run, progress)?;
        let mut timing = epoch_timing(run, epoch, first_batch, began);
        if let Some(signal) = stopped {
            return Err(self.stop_here(run, signal, timing, logs, progress));
        }

        // Whatever it could not write, nothing of this epoch takes the room for it.
        self.await_save(run, progress)?;

        let scores = self.validate(run, epoch, progress);
        let Scores { model, terms } = match self.saved_at_loss(scores, run, progress)? {
            Ok(scores) => scores,
            Err(signal) => return Err(self.stop_here(run, signal, timing, logs, progress)),
        };
        // Evaluations are captured too.
        self.tell_slower(&run.engine, progress);
        let seconds = began.elapsed().as_secs_f64();
        timing.valid_seconds = Some(seconds - timing.train_seconds);
        timing.peak_memory_bytes = peak_memory_bytes();

        let row = self.row(run, epoch, terms);
        let state = &mut run.state;
        let verdict = state
            .schedule
            .epoch_ended(self.settings, epoch, row.valid.loss);
        if let Some(logs) = &mut logs {
            let mut append = || Ok(logs.metrics.append(&row)?);
            state.metrics = self.persist(progress, SMALL_FILES, &mut append)?;
        }
        state.complete_epoch(epoch, verdict);
        let next_learning_rate = state.schedule.learning_rate_at(self.settings, state.step);

        let checked = ranks::check_weights(&run.engine, epoch, &self.ranks);
        self.saved_at_loss(checked, run, progress)?;
        if let Some(logs) = logs {
            self.persist(progress, SMALL_FILES, || {
                self.write_pictures(&model, &run.images.valid, epoch)
            })?;
            // Before the checkpoint, after which nothing would write it again: of an epoch that is trained twice both count.
            self.persist(progress, SMALL_FILES, || Ok(logs.timing.append(&timing)?))?;
            self.save_behind(run, progress)?;
        }
        progress.epoch_ended(&EpochEnd {
            row,
            epochs: self.settings.epochs,
            seconds,
            images_per_second: timing.images_per_second,
            is_best: verdict.is_best,
            next_learning_rate,
        });
        Ok(())
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
        let timed = match logs {
            Some(logs) if timing.train_steps > 0 => logs.timing.append(&timing),
            _ => Ok(()),
        };
        let saved = self.save(run, progress);
        match saved.and(timed.map_err(TrainError::from)) {
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
        let Err(TrainError::Ranks(error)) = &made else {
            return made;
        };
        if !error.is_loss() || !self.ranks.is_first() {
            return made;
        }
        if !matches!(error, RanksError::Ended { .. }) {
            // The others know then that there is a checkpoint to wait for.
            self.ranks.fail(error.exit_code());
        }
        // The weights are read from where they are trained; a device that fails now has failed before, and panics again. Where this fails, the
        // checkpoint before is what there is.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            run.engine.catch_up(&mut run.state.guard);
            let _ = self.save(run, progress);
        }));
        made
    }
}

/// Of the steps that an epoch has made since `began`, the first of which was on that batch.
fn epoch_timing(run: &ActiveRun, epoch: u32, first_batch: usize, began: Instant) -> EpochTiming {
    let train_seconds = began.elapsed().as_secs_f64();
    let rate = run.clock.rate(train_seconds);
    EpochTiming {
        epoch,
        train_steps: run.state.batches - first_batch,
        train_seconds,
        valid_seconds: None,
        first_step_seconds: run.clock.first_step_seconds(),
        images_per_second: rate.map_or(0.0, |rate| rate.images_per_second),
        peak_memory_bytes: None,
    }
}
