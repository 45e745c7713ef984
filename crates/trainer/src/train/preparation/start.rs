//! The first step of a run, or the checkpoint that it goes on from.

use std::time::Instant;

use cifar_loader::View;

use crate::experiment::model::initial_model;
use crate::experiment::split_images::SplitImages;
use crate::experiment::weights::WeightsError;
use crate::process::progress::Progress;
use crate::step::engine::Engine;
use crate::step::replicas::Replicas;
use crate::step::request::EngineOptions;
use crate::train::error::TrainError;
use crate::train::room::{SMALL_FILES, tell_left};
use crate::train::step_clock::StepClock;
use crate::train::{ActiveRun, RunImages, Training, ranks};
use run_files::checkpoint::{Checkpoint, CheckpointError, TrainingState};
use run_files::schedule::Schedule;

impl Training<'_> {
    /// A new run at step 0, or the newest intact checkpoint; whether it is the former.
    pub(in crate::train) fn start(
        &self,
        progress: &mut Progress,
    ) -> Result<(ActiveRun, bool), TrainError> {
        let model = initial_model(&self.config, self.settings.seed, &self.device);
        let checkpoints = self.folder.checkpoints(self.parameters);
        let found = if self.ranks.is_first() {
            self.newest_checkpoint(progress)?
        } else {
            None
        };
        if found.is_none() && self.ranks.is_first() {
            self.check_untrained()?;
        }
        let Some(checkpoint) = ranks::shared_checkpoint(found, &self.ranks)? else {
            let engine = Engine::new(model, self.replicas(), EngineOptions::of(self.settings));
            let state = TrainingState::new(Schedule::new(self.settings));
            return Ok((self.active(engine, state), true));
        };
        let Checkpoint {
            model: weights,
            optimizer,
            mut state,
            origin,
        } = checkpoint;
        let engine = Engine::restore(
            model,
            self.replicas(),
            EngineOptions::of(self.settings),
            state.updates,
            &weights,
            optimizer,
        )
        .map_err(|source| self.refused(source))?;
        if self.from_best && self.ranks.is_first() {
            // Only now that it is known to fit.
            tell_left(&checkpoints.discard_after(state.position())?, progress);
        }
        if origin.as_ref() != Some(&self.origin) && self.ranks.is_first() {
            // What the user has changed is the run's from here on, also if this process makes no step.
            self.persist(progress, SMALL_FILES, || {
                Ok(checkpoints.set_origin(state.position(), self.origin.clone())?)
            })?;
        }
        progress.notice(&format!(
            "continuing after {} (step {})",
            state.position(),
            state.step
        ));
        if state.schedule.adopt_settings(self.settings, state.epoch) || self.from_best {
            // The steps before were another training's.
            state.guard.non_finite_in_row = 0;
        }
        Ok((self.active(engine, state), false))
    }

    fn active(&self, engine: Engine, state: TrainingState) -> ActiveRun {
        ActiveRun {
            engine,
            state,
            images: self.images(),
            clock: self.clock(),
            last_checkpoint: Instant::now(),
            saving: None,
            owes_pictures: false,
        }
    }

    /// The model on the other devices.
    fn replicas(&self) -> Replicas {
        let (main, others) = (&self.device, &self.other_devices);
        Replicas::of_settings(self.settings, &self.config, main, others, &self.ranks)
    }

    fn images(&self) -> RunImages {
        RunImages {
            train: SplitImages::new(&self.splits.train, &self.device, self.image_place),
            valid: self.evaluation_images(&self.splits.valid),
        }
    }

    /// A split's images for a model without gradients.
    pub(in crate::train) fn evaluation_images(&self, view: &View) -> SplitImages {
        SplitImages::new(view, &self.device.clone().inner(), self.image_place)
    }

    fn clock(&self) -> StepClock {
        StepClock::new(self.settings.device.are_gpus())
    }

    pub(in crate::train) fn refused(&self, source: WeightsError) -> TrainError {
        let path = self.folder.join("checkpoints");
        CheckpointError::Weights { path, source }.into()
    }
}
