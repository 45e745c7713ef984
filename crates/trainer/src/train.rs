//! The training loop of the experiment.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Cifar10, Split, SplitOptions, Splits};
use vae_core::{DropoutMasks, Vae, VaeConfig};

use crate::adam::Adam;
use crate::checkpoint::{Checkpoint, TrainingState};
use crate::data;
use crate::error::TrainerError;
use crate::evaluate::{EvaluationOptions, TermSums, evaluate, floor, read_terms};
use crate::export::export;
use crate::latent_statistics::latent_statistics;
use crate::loss_curves::write_svg;
use crate::metrics::{
    EpochRow, EpochTiming, MetricsWriter, Terms, TimingWriter, peak_memory_bytes, read_rows,
};
use crate::model::{initial_model, model_config, sampler};
use crate::pictures::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES, write_reconstructions, write_samples};
use crate::progress::{EpochEnd, Finish, Progress, RunStart, StepProgress, StopReason};
use crate::random::{Purpose, Stream};
use crate::run_folder::{RunFolder, read_settings};
use crate::run_record::{PerPart, PerSplit, RunSummary};
use crate::schedule::Schedule;
use crate::settings::{Settings, differences};
use crate::weights::{load_values, named_values};

/// Rows of ten in the sample sheet of an epoch.
const SAMPLE_ROWS: usize = 4;
/// Images at a time in evaluation: enough to fill a device, whatever the training batch.
const EVALUATION_BATCH: usize = 100;

/// What does not change during a run.
struct Training<'a> {
    settings: &'a Settings,
    config: VaeConfig,
    device: Device,
    folder: RunFolder,
    splits: Splits,
    train_floor: f64,
    valid_floor: f64,
}

/// What changes from step to step.
struct Progressing {
    model: Vae,
    adam: Adam,
    state: TrainingState,
}

/// Trains, or continues training, as the settings say, and writes the run folder.
///
/// # Errors
/// Settings that fit no model or data, a run folder in use, a loss that is not finite, or files that cannot be written.
pub fn train(
    settings: &Settings,
    run_dir: &std::path::Path,
    resume: bool,
    device: &Device,
    progress: &mut Progress,
) -> Result<(), TrainerError> {
    let config = model_config(settings)?;
    let data = data::load(settings, progress)?;
    let splits = split(settings, &data)?;
    let folder = if resume {
        RunFolder::resume(run_dir)?
    } else {
        RunFolder::create(run_dir)?
    };
    let hash = data.fingerprint().to_string();
    if folder.holds_a_run() {
        check_unchanged(settings, &folder, &hash)?;
        // What may differ, such as the number of epochs, is what the run will have been made with.
        folder.record(settings, &hash, &data.source().to_string())?;
    } else {
        folder.record(settings, &hash, &data.source().to_string())?;
    }
    let training = Training {
        settings,
        config,
        device: device.clone().autodiff(),
        train_floor: floor(&splits.train),
        valid_floor: floor(&splits.valid),
        folder,
        splits,
    };
    training.run(progress)
}

/// The splits the settings ask for.
///
/// # Errors
/// Where one of them is empty.
pub fn split(settings: &Settings, data: &Cifar10) -> Result<Splits, TrainerError> {
    let splits = data.split(&SplitOptions {
        validation: data::validation(settings),
        seed: settings.seed,
        limit_train: settings.limit_train,
        limit_test: settings.limit_test,
    })?;
    for split in [Split::Train, Split::Valid, Split::Test] {
        if splits.get(split).is_empty() {
            return Err(TrainerError::EmptySplit { split });
        }
    }
    Ok(splits)
}

fn check_unchanged(
    settings: &Settings,
    folder: &RunFolder,
    hash: &str,
) -> Result<(), TrainerError> {
    let path = folder.path().to_owned();
    let differences = differences(&read_settings(&path)?, settings);
    if !differences.is_empty() {
        return Err(TrainerError::SettingsChanged { path, differences });
    }
    let expected = folder.recorded_data_hash()?;
    if expected != hash {
        return Err(TrainerError::DataChanged {
            path,
            expected,
            found: hash.to_owned(),
        });
    }
    Ok(())
}

impl Training<'_> {
    fn run(&self, progress: &mut Progress) -> Result<(), TrainerError> {
        let began = Instant::now();
        let mut now = self.start(progress)?;
        let first_epoch = now.state.epoch + 1;
        progress.run_started(&RunStart {
            settings: self.settings,
            run_dir: self.folder.path(),
            train_images: self.splits.train.len(),
            valid_images: self.splits.valid.len(),
            parameters: now.model.num_params(),
            first_epoch,
        });
        let keep = (now.state.epoch > 0).then_some(now.state.metrics);
        let mut metrics = MetricsWriter::open(self.folder.path(), keep)?;
        let mut timing = TimingWriter::open(self.folder.path())?;
        if now.state.epoch == 0 {
            self.write_pictures(&now.model.valid(), 0)?;
        }
        for epoch in first_epoch..=self.settings.epochs {
            if now.state.stopped {
                break;
            }
            now = self.epoch(now, epoch, &mut metrics, &mut timing, progress)?;
        }
        self.finish(&now, began, progress)
    }

    /// A new run at step 0, or the newest intact checkpoint.
    fn start(&self, progress: &mut Progress) -> Result<Progressing, TrainerError> {
        let model = initial_model(&self.config, self.settings.seed, &self.device);
        let Some((checkpoint, failures)) = self.folder.checkpoints().load_newest()? else {
            let state = TrainingState {
                epoch: 0,
                step: 0,
                schedule: Schedule::new(self.settings),
                metrics: Default::default(),
                stopped: false,
            };
            return Ok(Progressing {
                model,
                adam: Adam::new(),
                state,
            });
        };
        for failure in failures {
            progress.notice(&format!("passed over a damaged checkpoint: {failure}"));
        }
        let Checkpoint {
            model: values,
            optimizer,
            state,
        } = checkpoint;
        let path = self.folder.join("checkpoints");
        let refuse = |source| crate::checkpoint::CheckpointError::Weights {
            path: path.clone(),
            source,
        };
        let model = load_values(model, &values).map_err(refuse)?;
        let adam = Adam::from_named_values(state.step, &optimizer, &model, &self.device)
            .ok_or_else(|| {
                refuse(crate::weights::WeightsError::Missing {
                    name: "a moment of the optimizer".to_owned(),
                })
            })?;
        progress.notice(&format!(
            "continuing after epoch {} (step {})",
            state.epoch, state.step
        ));
        Ok(Progressing { model, adam, state })
    }

    fn epoch(
        &self,
        mut now: Progressing,
        epoch: u32,
        metrics: &mut MetricsWriter,
        timing: &mut TimingWriter,
        progress: &mut Progress,
    ) -> Result<Progressing, TrainerError> {
        let learning_rate = now
            .state
            .schedule
            .learning_rate_at(self.settings, now.state.step);
        let began = Instant::now();
        let train = self.train_epoch(&mut now, epoch, progress)?;
        let train_seconds = began.elapsed().as_secs_f64();

        let model = now.model.valid();
        let options = EvaluationOptions {
            batch_size: NonZeroUsize::new(EVALUATION_BATCH).expect("a constant above zero"),
            sampler: sampler(self.settings),
            seed: self.settings.seed,
            draw: epoch,
        };
        let valid = evaluate(
            &model,
            &self.splits.valid,
            self.valid_floor,
            options,
            &self.device,
        );
        let seconds = began.elapsed().as_secs_f64();

        let row = EpochRow {
            epoch,
            train,
            valid,
            learning_rate,
        };
        let verdict = now
            .state
            .schedule
            .epoch_ended(self.settings, epoch, valid.loss);
        now.state.metrics = metrics.append(&row)?;
        now.state.epoch = epoch;
        now.state.stopped = verdict.stop;
        self.write_pictures(&model, epoch)?;
        self.folder.checkpoints().save(&Checkpoint {
            model: named_values(&model),
            optimizer: now.adam.to_named_values(&now.model),
            state: now.state.clone(),
        })?;

        let images_per_second = self.plan().num_images() as f64 / train_seconds;
        timing.append(&EpochTiming {
            epoch,
            train_seconds,
            valid_seconds: seconds - train_seconds,
            images_per_second,
            peak_memory_bytes: peak_memory_bytes(),
        })?;
        progress.epoch_ended(&EpochEnd {
            row,
            epochs: self.settings.epochs,
            seconds,
            images_per_second,
            is_best: verdict.is_best,
            next_learning_rate: now
                .state
                .schedule
                .learning_rate_at(self.settings, now.state.step),
        });
        Ok(now)
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

    fn train_epoch(
        &self,
        now: &mut Progressing,
        epoch: u32,
        progress: &mut Progress,
    ) -> Result<Terms, TrainerError> {
        let began = Instant::now();
        let plan = self.plan();
        let batches = plan.epoch(epoch as u64);
        let mut sums = TermSums::default();
        for index in 0..batches.num_batches() {
            let batch = batches.batch(index);
            let terms = self.step(now, epoch, batch.to_tensor(&self.device))?;
            sums.add(terms, batch.len());
            let seconds = began.elapsed().as_secs_f64();
            if progress.step_due(seconds) {
                progress.step(&StepProgress {
                    epoch,
                    epochs: self.settings.epochs,
                    step: index + 1,
                    steps: batches.num_batches(),
                    images: (index + 1) * self.settings.batch_size.min(plan.num_images()),
                    seconds,
                    terms: sums.means(self.train_floor),
                });
            }
        }
        Ok(sums.means(self.train_floor))
    }

    /// One update. A loss that is not finite stops the run before it reaches the weights.
    fn step(
        &self,
        now: &mut Progressing,
        epoch: u32,
        images: Tensor<4>,
    ) -> Result<[f64; 3], TrainerError> {
        let [batch, ..] = images.dims();
        let step = now.state.step;
        let output = now.model.forward(
            images,
            self.noise(step, batch),
            sampler(self.settings),
            self.dropout(step, batch),
        );
        let terms = read_terms(&output.terms);
        for (term, value) in ["cross-entropy", "KL divergence", "L2 penalty"]
            .into_iter()
            .zip(terms)
        {
            if !value.is_finite() {
                return Err(TrainerError::NonFinite {
                    epoch,
                    step,
                    term: term.to_owned(),
                    value,
                });
            }
        }
        let gradients = output.terms.loss().mean().backward();
        let learning_rate = now.state.schedule.learning_rate_at(self.settings, step);
        now.model = now.adam.step(now.model.clone(), gradients, learning_rate);
        now.state.step += 1;
        Ok(terms)
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
        let intermediate = self.settings.intermediate_dim;
        let encoder = uniform(self.config.positions() * intermediate);
        Some(DropoutMasks::from_uniform(
            encoder,
            uniform(intermediate),
            self.settings.dropout,
        ))
    }

    fn write_pictures(&self, model: &Vae, epoch: u32) -> Result<(), TrainerError> {
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
        write_reconstructions(model, &self.splits.valid, &reconstructions, &self.device)
    }

    /// Exports the weights of the best epoch, scores them on the test set, and draws the final pictures.
    fn finish(
        &self,
        now: &Progressing,
        began: Instant,
        progress: &mut Progress,
    ) -> Result<(), TrainerError> {
        let rows = read_rows(&self.folder.join("metrics.jsonl"))?;
        let Some(last) = rows.last().copied() else {
            return Err(TrainerError::NoRun {
                path: self.folder.path().to_owned(),
                missing: "completed epoch",
            });
        };
        // Where no epoch was ever finite enough to be best, the last one stands.
        let best_epoch = now
            .state
            .schedule
            .best
            .map_or(last.epoch, |(_, epoch)| epoch);
        let best = rows
            .iter()
            .copied()
            .find(|row| row.epoch == best_epoch)
            .unwrap_or(last);
        let checkpoint = self.folder.checkpoints().load(best_epoch)?;
        let path = self.folder.join("checkpoints");
        let model = load_values(
            self.config.init(&self.device.clone().inner()),
            &checkpoint.model,
        )
        .map_err(|source| crate::checkpoint::CheckpointError::Weights { path, source })?;

        let options = EvaluationOptions {
            batch_size: NonZeroUsize::new(EVALUATION_BATCH).expect("a constant above zero"),
            sampler: sampler(self.settings),
            seed: self.settings.seed,
            draw: 0,
        };
        let test_images = &self.splits.test;
        let test_floor = floor(test_images);
        let test = evaluate(&model, test_images, test_floor, options, &self.device);
        let latent = latent_statistics(&model, test_images, options.batch_size, &self.device);
        let cost = self.config.cost();
        let summary = RunSummary {
            best,
            last,
            test,
            stopped_early: now.state.stopped,
            latent,
            parameters: PerPart {
                encoder: model.encoder.num_params() as u64,
                decoder: model.decoder.num_params() as u64,
                total: model.num_params() as u64,
            },
            multiply_accumulates_per_image: PerPart {
                encoder: cost.encoder_multiply_accumulates,
                decoder: cost.decoder_multiply_accumulates,
                total: cost.multiply_accumulates(),
            },
            images: PerSplit {
                train: self.splits.train.len() as u64,
                valid: self.splits.valid.len() as u64,
                test: test_images.len() as u64,
            },
            floor: PerSplit {
                train: self.train_floor,
                valid: self.valid_floor,
                test: test_floor,
            },
        };
        let reconstructions = self.folder.join(FINAL_RECONSTRUCTIONS);
        write_reconstructions(&model, test_images, &reconstructions, &self.device)?;
        let curves = self.folder.join("loss-curves.svg");
        write_svg(&curves, &rows)?;
        let grid = self.folder.join(FINAL_SAMPLES);
        write_samples(&model, 10, self.settings.seed, 1, &grid, &self.device)?;
        // Last: where there is a summary, the rest is there too.
        export(&self.folder, &model, test_images, &self.device, &summary)?;

        let reconstructions = self
            .folder
            .join(&format!("reconstructions/epoch-{best_epoch:04}.png"));
        let pictures: [PathBuf; 3] = [grid, reconstructions, curves];
        progress.finished(&Finish {
            reason: if now.state.stopped {
                StopReason::EarlyStopping
            } else {
                StopReason::EpochLimit
            },
            best,
            last,
            seconds: began.elapsed().as_secs_f64(),
            run_dir: self.folder.path(),
            pictures: &pictures,
        });
        Ok(())
    }
}
