//! The training loop of the experiment.

use std::path::Path;
use std::time::Instant;

use burn::prelude::*;
use cifar_loader::{Splits, View};

use crate::device::{matrix_products, open_device};
use crate::experiment::data;
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::step::request::EngineOptions;
use run_files::checkpoint::{Checkpoint, CheckpointError, Origin, TrainingState};

use crate::device::memory;
use crate::experiment::evaluate::cross_entropy_floor;
use crate::experiment::file_list::open_file_list;
use crate::experiment::model::{Model, ModelConfig, initial_model, model_config};
use crate::experiment::split_images::{ImagePlace, SplitImages};
use crate::experiment::weights::WeightsError;
use crate::process::progress::{Progress, RunStart};
use crate::process::stop_request::StopRequest;
use crate::ranks::{Ranks, divided};
use crate::step::replicas::Replicas;
use crate::train::step_clock::StepClock;
use run_files::file_operations::lacks_folder_sync;
use run_files::metrics::{MetricsWriter, TimingWriter};
use run_files::run_folder::{
    RunFolder, read_config, recorded_data_hash, recorded_origin, unrecorded_differences,
};
use run_files::schedule::Schedule;
use run_files::settings::{Difference, Settings};

mod batches;
mod epoch;
mod error;
mod finish;
mod ranks;
mod row;
mod saving;
mod step;
pub(crate) mod step_clock;
mod validation;

pub use error::TrainError;
use saving::{SMALL_FILES, tell_left};

/// How and where a run is made, which no number of it depends on.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions<'a> {
    /// The run folder.
    pub run_dir: &'a Path,
    /// Continue the run in that folder, or begin one where there is none.
    pub resume: bool,
    /// Continue although the settings differ from those the run was begun with.
    pub allow_config_change: bool,
    /// Go back to the checkpoint of the best epoch and forget the newer ones; where there is none yet, to the newest.
    pub from_best: bool,
    /// Looked at before every step.
    pub stop: &'a StopRequest,
    /// Who shares each batch with this process; rank 0 alone uses the run folder.
    pub ranks: Option<&'a Ranks>,
}

impl<'a> TrainOptions<'a> {
    /// A new run in a folder that holds none.
    pub fn new(run_dir: &'a Path, stop: &'a StopRequest) -> Self {
        Self {
            run_dir,
            resume: false,
            allow_config_change: false,
            from_best: false,
            stop,
            ranks: None,
        }
    }
}

/// What does not change during a run.
struct Training<'a> {
    settings: &'a Settings,
    config: ModelConfig,
    device: Device,
    /// Those that take parts of each batch besides.
    other_devices: Vec<Device>,
    folder: RunFolder,
    splits: Splits,
    image_place: ImagePlace,
    train_floor: f64,
    valid_floor: f64,
    /// Kept in every checkpoint.
    origin: Origin,
    parameters: usize,
    stop: &'a StopRequest,
    ranks: Ranks,
    from_best: bool,
    faults: FaultInjector,
}

/// What changes from step to step.
struct ActiveRun {
    engine: Engine,
    state: TrainingState,
    images: RunImages,
    clock: StepClock,
    last_checkpoint: Instant,
    /// Whether the pictures of the first weights are still to be drawn.
    owes_pictures: bool,
}

/// The images that every epoch needs, where its batches are made.
struct RunImages {
    train: SplitImages,
    valid: SplitImages,
}

/// The files that grow with a run.
struct Logs {
    metrics: MetricsWriter,
    timing: TimingWriter,
}

/// Trains, or continues training, as the settings say, and writes the run folder.
///
/// # Errors
/// Settings that fit no model or data, a run folder in use, steps that are not finite, files that cannot be written, or a
/// request to stop, after which the run can be continued.
pub fn train(
    settings: &Settings,
    options: TrainOptions<'_>,
    device: &Device,
    progress: &mut Progress,
) -> Result<(), TrainError> {
    let alone = Ranks::alone();
    let ranks = options.ranks.unwrap_or(&alone);
    // The division of batches is a part of what the run is.
    let settings = &divided(settings, ranks)?;
    Training::prepare(settings, options, device, progress)?.run(progress)
}

impl<'a> Training<'a> {
    /// Takes the run folder and records there what the run is.
    fn prepare(
        settings: &'a Settings,
        options: TrainOptions<'a>,
        device: &Device,
        progress: &mut Progress,
    ) -> Result<Self, TrainError> {
        let config = model_config(settings)?;
        memory::check(settings, &config)?;
        // A run that was made with the embedded sample goes on with it.
        let recorded = recorded_data_hash(options.run_dir);
        let recorded = recorded.ok().filter(|_| options.resume);
        let data = data::load_recorded(settings, recorded.as_deref())?;
        let splits = data::split(settings, &data)?;
        // Parameters are counted from their shapes; no value is drawn.
        let parameters = Model::new(&config, &device.clone().inner()).num_params();
        let other_devices = settings
            .device
            .others()
            .iter()
            .map(|choice| Ok(open_device(*choice)?.autodiff()));
        let other_devices = other_devices.collect::<Result<_, TrainError>>()?;
        let hash = data.fingerprint().to_string();
        let ranks = options.ranks.map_or_else(Ranks::alone, Ranks::clone);
        ranks::check_agreement(settings, &hash, &ranks)?;
        let folder = if !ranks.is_first() {
            RunFolder::of_another(options.run_dir)
        } else if options.resume {
            RunFolder::resume(options.run_dir)?
        } else {
            RunFolder::create(options.run_dir)?
        };
        let mut folder = folder;
        if let Some(name) = matrix_products(device) {
            progress.notice(&format!(
                "matrix products on {}: {name}",
                settings.device.main()
            ));
            folder.set_matrix_products(Some(name));
        }
        let train_floor = cross_entropy_floor(&config, &splits.train);
        let valid_floor = cross_entropy_floor(&config, &splits.valid);
        let training = Self {
            settings,
            origin: Origin {
                settings: settings.recorded(),
                data_hash: hash.clone(),
            },
            config,
            device: device.clone().autodiff(),
            other_devices,
            train_floor,
            valid_floor,
            folder,
            splits,
            image_place: ImagePlace::of(device),
            parameters,
            stop: options.stop,
            ranks,
            from_best: options.from_best,
            faults: FaultInjector::none(),
        };
        if !training.ranks.is_first() {
            return Ok(training);
        }
        if !training.folder.is_locked() {
            progress.notice(&format!(
                "the file system of {} has no locks: see to it that no other process trains there",
                training.folder.path().display()
            ));
        }
        let mut changed = Vec::new();
        if training.folder.holds_a_run() {
            changed = training.check_unchanged(&data, options.allow_config_change, progress)?;
        }
        training.remove_unfinished(progress)?;
        training.check_space()?;
        // What may differ, such as the number of epochs, is what the run will have been made with.
        training.persist(progress, SMALL_FILES, || {
            // The run is not, or no longer, the finished one that a list would describe.
            open_file_list(&training.folder)?;
            let source = data.source().to_string();
            Ok(training.folder.record(settings, &hash, &source, &changed)?)
        })?;
        if lacks_folder_sync() {
            progress.notice(&format!(
                "the file system of {} cannot sync folders: a crash of the machine may cost the newest checkpoint",
                training.folder.path().display()
            ));
        }
        Ok(training)
    }

    /// Compares the settings and the data with those that the run was made with, by its newest checkpoint where it has one.
    /// Returns the settings that change, which the user has allowed.
    fn check_unchanged(
        &self,
        data: &data::Data,
        allow_config_change: bool,
        progress: &mut Progress,
    ) -> Result<Vec<Difference>, TrainError> {
        let path = self.folder.path().to_owned();
        let before = match recorded_origin(&path)? {
            Some((_, settings, _)) => settings,
            None => read_config(&path)?,
        };
        let differences = unrecorded_differences(&path, &before, self.settings);
        if !differences.is_empty() && !allow_config_change {
            return Err(TrainError::SettingsChanged { path, differences });
        }
        let fixed: Vec<_> = differences
            .iter()
            .filter(|difference| difference.is_fixed())
            .cloned()
            .collect();
        if !fixed.is_empty() {
            return Err(TrainError::SettingsFixed {
                path,
                differences: fixed,
            });
        }
        for difference in &differences {
            progress.notice(&format!("continuing with another setting: {difference}"));
        }
        data::check_recorded(&path, &recorded_data_hash(&path)?, data)?;
        Ok(differences)
    }

    fn run(&self, progress: &mut Progress) -> Result<(), TrainError> {
        let began = Instant::now();
        let (mut run, is_new) = self.start(progress)?;
        progress.run_started(&RunStart {
            settings: self.settings,
            run_dir: self.folder.path(),
            train_images: self.splits.train.len(),
            valid_images: self.splits.valid.len(),
            parameters: self.parameters,
            first_epoch: run.state.epoch + 1,
            is_over: run.state.epoch >= self.settings.epochs || run.state.stopped,
        });
        if let Some(reason) = self.settings.why_no_bound() {
            progress.notice(reason);
        }
        if self.settings.device.are_gpus() && !run.engine.is_on_device() {
            progress.notice("steps are made of Burn's operations here, which are slower than the device's own step");
        }
        let mut logs = if self.ranks.is_first() {
            Some(self.open_logs(&mut run, is_new, progress)?)
        } else {
            None
        };
        while run.state.epoch < self.settings.epochs && !run.state.stopped {
            run = self.epoch(run, logs.as_mut(), progress)?;
        }
        if self.ranks.is_first() {
            self.finish(run, began, progress)?;
        }
        Ok(())
    }

    /// The files that grow, as long as the run is; a new one gets its first pictures.
    fn open_logs(
        &self,
        run: &mut ActiveRun,
        is_new: bool,
        progress: &mut Progress,
    ) -> Result<Logs, TrainError> {
        let keep = (!is_new).then_some(run.state.metrics);
        let logs = self.persist(progress, SMALL_FILES, || {
            let keys = self.further_keys();
            Ok(Logs {
                metrics: MetricsWriter::open_with(self.folder.path(), keep, &keys)?,
                timing: TimingWriter::open(self.folder.path())?,
            })
        })?;
        run.state.metrics = logs.metrics.lengths();
        run.owes_pictures = is_new;
        // A device's own steps do not wait for the kernels of Burn's operations, nor for the memory that those would keep: after the first step the
        // weights before it are still here.
        if !run.engine.is_on_device() {
            self.first_pictures(run, progress)?;
        }
        Ok(logs)
    }

    /// Draws the pictures of a new run's first weights, where that is still to be done. The model has not been settled since.
    fn first_pictures(
        &self,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        if std::mem::take(&mut run.owes_pictures) {
            let model = run.engine.model().valid();
            self.persist(progress, SMALL_FILES, || {
                self.write_pictures(&model, &run.images.valid, 0)
            })?;
        }
        Ok(())
    }

    /// A new run at step 0, or the newest intact checkpoint; whether it is the former.
    fn start(&self, progress: &mut Progress) -> Result<(ActiveRun, bool), TrainError> {
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
    fn evaluation_images(&self, view: &View) -> SplitImages {
        SplitImages::new(view, &self.device.clone().inner(), self.image_place)
    }

    fn clock(&self) -> StepClock {
        StepClock::new(self.settings.device.are_gpus())
    }

    fn refused(&self, source: WeightsError) -> TrainError {
        let path = self.folder.join("checkpoints");
        CheckpointError::Weights { path, source }.into()
    }
}

#[cfg(all(test, feature = "flex"))]
mod division_tests;
#[cfg(all(test, feature = "flex"))]
mod tests;
