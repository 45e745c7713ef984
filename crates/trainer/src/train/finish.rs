//! What a run leaves when its last epoch is over.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use burn::prelude::*;
use resnet_blocks::parameter_names;

use super::error::TrainError;
use crate::experiment::evaluate::{
    BatchScorer, Interrupted, ModelScorer, bits_per_dim, cross_entropy_floor, evaluate_until,
};
use crate::experiment::export::export;
use crate::experiment::file_list::write_file_list;
use crate::experiment::latent_statistics::latent_statistics_of;
use crate::experiment::model::Model;
use crate::experiment::pictures::{
    FINAL_RECONSTRUCTIONS, FINAL_SAMPLES, write_reconstructions_of, write_samples,
};
use crate::experiment::split_images::SplitImages;
use crate::experiment::weights::{DECODER_PREFIX, ENCODER_PREFIX, load_values};
use crate::process::progress::{Finish, Progress, StopReason};
use crate::ranks::Ranks;
use crate::step::weight_average::WeightAverage;
use run_files::metrics::{EpochRow, Terms, read_rows};
use run_files::run_folder::RunFolderError;
use run_files::run_record::{PerNetwork, PerSplit, RunSummary};
use run_report::loss_curves::{LOSS_CURVES, write_svg};

use super::room::SMALL_FILES;
use super::{ActiveRun, Training};

impl Training<'_> {
    /// Exports the weights of the best epoch, scores them on the test set, and draws the final pictures.
    pub(super) fn finish(
        &self,
        mut run: ActiveRun,
        began: Instant,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        let rows = read_rows(&self.folder.join("metrics.jsonl"))?;
        let Some(last) = rows.last().copied() else {
            return Err(RunFolderError::NoRun {
                path: self.folder.path().to_owned(),
                missing: "completed epoch",
            }
            .into());
        };
        let (model, best_epoch) = self.best_model(&run, progress)?;
        let best: EpochRow = rows
            .iter()
            .copied()
            .find(|row| row.epoch == best_epoch)
            .unwrap_or(last);

        let test_floor = cross_entropy_floor(&self.config, &self.splits.test);
        let images = self.evaluation_images(&self.splits.test);
        let of = self.splits.test.len();
        let mut score = |scorer: &mut dyn BatchScorer, options| {
            evaluate_until(
                scorer,
                &images,
                test_floor,
                options,
                (self.stop, &Ranks::alone()),
                &mut |done| progress.evaluated("test", done, of),
            )
        };
        let options = self.evaluation(&model, 0);
        let of_device = self.device_evaluation(&run.engine, options);
        let test = match run.engine.final_scorer(&model) {
            Some(mut scorer) => score(scorer.as_mut(), of_device),
            None => score(&mut ModelScorer(&model), options),
        };
        // The checkpoint of the last epoch is all that is needed to do this again.
        let test = test.map_err(|interrupted| match interrupted {
            Interrupted::Stop(signal) => TrainError::Stopped {
                signal,
                step: run.state.step,
                run_dir: self.folder.path().to_owned(),
            },
            Interrupted::Ranks(error) => error.into(),
        })?;
        // The rest is made of Burn's operations, whose memory has to be found beside the training's.
        run.engine.release();
        let batch_size = of_device.batch_size;
        let summary = self.summary(&run, (&model, &images, batch_size), best, last, test);
        if let Some(warning) = summary
            .latent
            .collapse_warning(summary.images.test, self.settings)
        {
            progress.notice(&warning);
        }
        let curves = self.folder.join(LOSS_CURVES);
        let grid = self.folder.join(FINAL_SAMPLES);
        let test_images = &self.splits.test;
        self.persist(progress, self.checkpoint_bytes() + SMALL_FILES, || {
            let reconstructions = self.folder.join(FINAL_RECONSTRUCTIONS);
            write_reconstructions_of(&model, &images, &reconstructions)?;
            write_svg(&curves, &rows)?;
            write_samples(&model, 10, self.settings.seed, 1, &grid, &self.device)?;
            // Last: where there is a summary, the rest is there too.
            export(&self.folder, &model, test_images, &self.device, &summary)?;
            // And where there is a list, nothing will be written any more.
            Ok(write_file_list(&self.folder)?)
        })?;

        let reconstructions = self.folder.join(FINAL_RECONSTRUCTIONS);
        let pictures: [PathBuf; 3] = [grid, reconstructions, curves];
        progress.finished(&Finish {
            reason: if run.state.stopped {
                StopReason::EarlyStopping
            } else {
                StopReason::EpochLimit
            },
            best,
            last,
            test,
            seconds: began.elapsed().as_secs_f64(),
            run_dir: self.folder.path(),
            pictures: &pictures,
        });
        Ok(())
    }

    fn summary(
        &self,
        run: &ActiveRun,
        (model, images, batch_size): (&Model, &SplitImages, NonZeroUsize),
        best: EpochRow,
        last: EpochRow,
        test: Terms,
    ) -> RunSummary {
        let test_images = &self.splits.test;
        let cost = self.config.cost();
        let names = parameter_names(model);
        let count = |prefix| {
            let of_network = names.iter().filter(|each| each.name.starts_with(prefix));
            let sizes = of_network.map(|each| each.shape.iter().product::<usize>());
            sizes.sum::<usize>() as u64
        };
        RunSummary {
            best,
            last,
            test,
            test_bits_per_dim: bits_per_dim(self.settings, &test),
            stopped_early: run.state.stopped,
            latent: latent_statistics_of(model, images, batch_size),
            parameters: PerNetwork {
                encoder: count(ENCODER_PREFIX),
                decoder: count(DECODER_PREFIX),
                total: model.num_params() as u64,
            },
            multiply_accumulates_per_image: PerNetwork {
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
                test: cross_entropy_floor(&self.config, test_images),
            },
        }
    }

    /// The weights of the best epoch, and which epoch that is: the last one, where none was ever finite enough to be
    /// best or the best one's checkpoint is damaged.
    fn best_model(
        &self,
        run: &ActiveRun,
        progress: &mut Progress,
    ) -> Result<(Model, u32), TrainError> {
        let Some(best) = run.state.best else {
            return Ok((run.engine.scored_model(), run.state.epoch));
        };
        match self.folder.checkpoints(self.parameters).load(best) {
            Ok(mut checkpoint) => {
                let model = Model::new(&self.config, &self.device.clone().inner());
                let of_average = WeightAverage::take_values(&mut checkpoint.optimizer);
                let values = if self.settings.ema.is_some() {
                    &of_average
                } else {
                    &checkpoint.model
                };
                let model = load_values(model, values).map_err(|source| self.refused(source))?;
                Ok((model, best.epoch))
            }
            Err(error) => {
                progress.notice(&format!(
                    "the best weights, of epoch {}, are lost ({error}); those of epoch {} are exported instead",
                    best.epoch, run.state.epoch
                ));
                Ok((run.engine.scored_model(), run.state.epoch))
            }
        }
    }
}
