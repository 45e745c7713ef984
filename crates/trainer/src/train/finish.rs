//! What a run leaves when its last epoch is over.

use std::path::PathBuf;
use std::time::Instant;

use burn::prelude::*;
use vae_core::Vae;

use crate::error::TrainerError;
use crate::evaluate::{evaluate_until, floor};
use crate::export::{Results, export};
use crate::loss_curves::write_svg;
use crate::metrics::{EpochRow, read_rows};
use crate::pictures::write_samples;
use crate::progress::{Finish, Progress, StopReason};
use crate::weights::load_values;

use super::{Progressing, SMALL_FILES, Training};

impl Training<'_> {
    /// Exports the weights of the best epoch, scores them on the test set, and draws the final pictures.
    pub(super) fn finish(
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
        let (model, best_epoch) = self.best_model(now, progress)?;
        let best: EpochRow = rows
            .iter()
            .copied()
            .find(|row| row.epoch == best_epoch)
            .unwrap_or(last);

        let test = evaluate_until(
            &model,
            &self.splits.test,
            floor(&self.splits.test),
            self.evaluation(0),
            &self.device,
            self.stop,
        );
        // The checkpoint of the last epoch is all that is needed to do this again.
        let test = test.map_err(|signal| TrainerError::Stopped {
            signal,
            step: now.state.step,
            run_dir: self.folder.path().to_owned(),
        })?;
        let results = Results {
            best: &best,
            last: &last,
            test: &test,
            stopped_early: now.state.stopped,
        };
        let curves = self.folder.join("loss-curves.svg");
        let grid = self.folder.join("samples/final-10x10.png");
        self.persist(progress, self.checkpoint_bytes() + SMALL_FILES, || {
            export(
                &self.folder,
                &model,
                &self.splits.test,
                &self.device,
                &results,
            )?;
            write_svg(&curves, &rows)?;
            write_samples(&model, 10, self.settings.seed, 1, &grid, &self.device)
        })?;

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

    /// The weights of the best epoch, and which epoch that is: the last one, where none was ever finite enough to be
    /// best or the best one's checkpoint is damaged.
    fn best_model(
        &self,
        now: &Progressing,
        progress: &mut Progress,
    ) -> Result<(Vae, u32), TrainerError> {
        let Some(best) = now.state.best else {
            return Ok((now.model.valid(), now.state.epoch));
        };
        match self.folder.checkpoints(self.parameters).load(best) {
            Ok(checkpoint) => {
                let model = self.config.init(&self.device.clone().inner());
                let model =
                    load_values(model, &checkpoint.model).map_err(|source| self.refused(source))?;
                Ok((model, best.epoch))
            }
            Err(error) => {
                progress.notice(&format!(
                    "the best weights, of epoch {}, are lost ({error}); those of epoch {} are exported instead",
                    best.epoch, now.state.epoch
                ));
                Ok((now.model.valid(), now.state.epoch))
            }
        }
    }
}
