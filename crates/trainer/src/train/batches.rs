//! The steps of an epoch.

use std::num::NonZeroUsize;
use std::time::Instant;

use cifar_loader::{BatchPlan, Epoch};
use run_files::settings::Augment;

use super::error::TrainError;
use super::{ActiveRun, Training};
use crate::device::failure_text::launched;
use crate::device::{DeviceError, unplanned_products};
use crate::experiment::data;
use crate::process::progress::{Progress, StepProgress};
use crate::process::stop_request::StopSignal;
use crate::step::engine::Engine;

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
    pub(super) fn train_epoch(
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
                self.first_pictures(run, progress)?;
                self.catch_up(run, &epoch)?;
                return Ok(Some(signal));
            }
            progress.passes_step(number, index + 1, num_batches);
            let images = batches.batch(index);
            let batch = images.len();
            self.step(run, &epoch, images)?;
            self.watch_save(run, progress)?;
            if run.clock.awaits_first_step() {
                self.wait()?;
            }
            let seconds = began.elapsed().as_secs_f64();
            if let Some(first) = run.clock.step_ends(batch, seconds) {
                progress.notice(&format!(
                    "the first step took {first:.1} s, in which kernels may have been compiled; no rate counts it"
                ));
                let pictures = Instant::now();
                self.first_pictures(run, progress)?;
                run.clock.leaves_out(pictures.elapsed().as_secs_f64());
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
            // A GPU's first step is reported with the second.
            let has_terms = run.state.sums.images() > 0;
            if has_terms && progress.step_due(seconds) {
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
                self.catch_up(run, &epoch)?;
                if is_asked {
                    self.save(run, progress)?;
                } else {
                    self.save_behind(run, progress)?;
                }
            }
            if is_asked {
                progress.notice(&format!(
                    "asked for a checkpoint at step {}",
                    run.state.step
                ));
            }
            if let Some(signal) = StopSignal::from_number(asked.stop) {
                self.catch_up(run, &epoch)?;
                return Ok(Some(signal));
            }
        }
        self.settle(run, &epoch)?;
        self.tell_slower(&run.engine, progress);
        if let Some(link) = run.engine.link() {
            progress.notice_once(&format!("gradients go between ranks by {link}"));
        }
        Ok(None)
    }

    /// Says once why a device is slower than it should be: where it launches what it should replay, or multiplies without its library.
    pub(super) fn tell_slower(&self, engine: &Engine, progress: &mut Progress) {
        if let Some(reason) = engine.capture_failure() {
            progress.notice_once(&launched("steps", reason));
        }
        if let Some(refused) = unplanned_products(&self.device) {
            progress.notice_once_of("unplanned products", &refused);
        }
    }

    /// Waits until the device has done all that it was asked for.
    fn wait(&self) -> Result<(), TrainError> {
        self.device.sync().map_err(|error| DeviceError::Lost {
            device: self.settings.device.main(),
            reason: error.to_string(),
        })?;
        Ok(())
    }
}
