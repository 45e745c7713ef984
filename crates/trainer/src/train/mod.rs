//! The training loop of the experiment.

use std::time::Instant;

use burn::prelude::*;
use cifar_loader::Splits;

use crate::experiment::model::ModelConfig;
use crate::experiment::split_images::{ImagePlace, SplitImages};
use crate::process::progress::{Progress, RunStart};
use crate::process::stop_request::StopRequest;
use crate::ranks::Ranks;
use crate::ranks::division::divided;
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::train::step_clock::StepClock;
use run_files::checkpoint::{Origin, TrainingState};
use run_files::metrics::{MetricsWriter, TimingWriter};
use run_files::run_folder::RunFolder;
use run_files::settings::Settings;

mod batches;
mod epoch;
mod error;
mod finish;
mod options;
mod preparation;
mod ranks;
mod room;
mod row;
mod save_under_way;
mod saving;
mod step;
pub(crate) mod step_clock;
mod validation;

pub use error::TrainError;
pub use options::TrainOptions;
use room::SMALL_FILES;
use save_under_way::SaveUnderWay;

/// What does not change during a run.
struct Training<'a> {
    settings: &'a Settings,
    config: ModelConfig,
    device: Device,
    /// Those that take shards of each batch besides.
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
    /// The newest checkpoint, where it is still being written.
    saving: Option<SaveUnderWay>,
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

/// Images of a shard below which a run says so: so few have statistics that are mostly noise.
const FEW_IMAGES: usize = 8;

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
    let given = settings.shards;
    let settings = &divided(settings, ranks)?;
    let fewest = settings.batch_size / settings.shards;
    if settings.shards != given && fewest < FEW_IMAGES && !settings.sync_norm {
        let most = settings.batch_size.div_ceil(settings.shards);
        let images = if most == fewest {
            fewest.to_string()
        } else {
            format!("{fewest} or {most}")
        };
        progress.notice(&format!(
            "each shard of a batch has {images} images, whose statistics alone normalise it: a larger `--batch-size` makes them those of more"
        ));
    }
    Training::prepare(settings, options, device, progress)?.run(progress)
}

impl Training<'_> {
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
            let ended = self.epoch(&mut run, logs.as_mut(), progress);
            if ended.is_err() {
                // Whatever ends the run, its user learns which checkpoint is missing.
                self.supersede_save(&mut run, progress);
            }
            ended?;
        }
        if self.ranks.is_first() {
            self.await_save(&mut run, progress)?;
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
            let keys = self.optional_keys();
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
}

#[cfg(all(test, feature = "flex"))]
mod division_tests;
#[cfg(all(test, feature = "flex"))]
mod tests;
