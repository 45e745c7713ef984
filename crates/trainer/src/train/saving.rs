//! Checkpoints of a run: the one it goes on from, those it writes, and the room they need.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cifar_loader::free_bytes;

use super::room::{SMALL_FILES, tell_left};
use super::save_under_way::SaveUnderWay;
use super::{ActiveRun, TrainError, Training};
use crate::experiment::file_list::{PICTURES, is_a_runs_file, is_a_runs_picture};
use crate::process::progress::Progress;
use run_files::atomic_file::remove_unfinished;
use run_files::checkpoint::Checkpoint;
use run_files::metrics::{METRICS_JSONL, read_rows};
use run_files::run_folder::SUMMARY;
use run_files::settings::OnDiskFull;

/// Checkpoints on the disk at one time: the newest two, the best of each, and the one that is being written.
const CHECKPOINTS: u64 = 5;

impl Training<'_> {
    /// Refuses a run that would meet a full disk, before it begins or goes on.
    pub(super) fn check_space(&self) -> Result<(), TrainError> {
        // Those that are there have their room already, but for the one that is written before the oldest is removed.
        let there = self.folder.checkpoints(self.parameters).positions()?.len() as u64;
        let missing = CHECKPOINTS - there.min(CHECKPOINTS - 1);
        let needed = missing * self.checkpoint_bytes() + SMALL_FILES;
        match free_bytes(self.folder.path()) {
            Some(available)
                if available < needed && self.settings.on_disk_full == OnDiskFull::Stop =>
            {
                Err(TrainError::DiskFull {
                    path: self.folder.path().to_owned(),
                    needed: Some(needed),
                    available: Some(available),
                    run_dir: self.folder.path().to_owned(),
                    is_begun: self.folder.holds_a_run(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Removes what killed processes of this run left half written, or half removed.
    pub(super) fn remove_unfinished(&self, progress: &mut Progress) -> Result<(), TrainError> {
        let left = self
            .folder
            .checkpoints(self.parameters)
            .remove_unfinished()?;
        tell_left(&left, progress);
        remove_unfinished(self.folder.path(), is_a_runs_file);
        for pictures in PICTURES {
            remove_unfinished(&self.folder.join(pictures), is_a_runs_picture);
        }
        Ok(())
    }

    /// Refuses to train again what was trained: a run without checkpoints has not come to its second epoch.
    pub(super) fn check_untrained(&self) -> Result<(), TrainError> {
        let rows = read_rows(&self.folder.join(METRICS_JSONL)).map_or(0, |rows| rows.len());
        if rows < 2 && !self.folder.join(SUMMARY).exists() {
            return Ok(());
        }
        Err(TrainError::CheckpointsLost {
            run_dir: self.folder.path().to_owned(),
            epochs: rows,
        })
    }

    /// Three float32 numbers a parameter, and one more of its average.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        let numbers = 3 + u64::from(self.settings.ema.is_some());
        4 * numbers * self.parameters as u64
    }

    /// The checkpoint that the run goes on from, where there is one.
    pub(super) fn newest_checkpoint(
        &self,
        progress: &mut Progress,
    ) -> Result<Option<Checkpoint>, TrainError> {
        let checkpoints = self.folder.checkpoints(self.parameters);
        let Some((mut checkpoint, failures)) = checkpoints.load_newest()? else {
            return Ok(None);
        };
        for failure in failures {
            progress.notice(&format!("passed over a damaged checkpoint: {failure}"));
        }
        if self.from_best
            && let Some(best) = checkpoint.state.best
        {
            checkpoint = checkpoints.load(best)?;
        }
        Ok(Some(checkpoint))
    }

    /// Writes a checkpoint of where the run is.
    pub(super) fn save(
        &self,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        self.supersede_save(run, progress);
        if self.ranks.is_first() {
            self.write(&self.checkpoint(run), progress)?;
        }
        // When the next one is due, all ranks make ready for it.
        run.last_checkpoint = Instant::now();
        Ok(())
    }

    /// As [`save`](Self::save); where a GPU trains, it goes on meanwhile, and what became of it is told with the first step behind its end. On processors
    /// the writing would take time from the steps, and a second copy of everything from memory.
    pub(super) fn save_behind(
        &self,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        if !run.engine.is_on_device() || !self.ranks.is_first() {
            return self.save(run, progress);
        }
        if !self.supersede_save(run, progress) {
            return self.save(run, progress);
        }
        let folder = self.folder.checkpoints(self.parameters);
        run.saving = Some(SaveUnderWay::begin(folder, self.checkpoint(run)));
        run.last_checkpoint = Instant::now();
        Ok(())
    }

    /// Waits for the checkpoint that is being written, and says so where it could not be: a newer one follows, or the run ends for another reason.
    /// Whether all is well.
    pub(super) fn supersede_save(&self, run: &mut ActiveRun, progress: &mut Progress) -> bool {
        match run.saving.take().map(SaveUnderWay::wait) {
            None => true,
            Some(Ok(left)) => {
                tell_left(&left, progress);
                true
            }
            Some(Err(failed)) => {
                let (error, _) = *failed;
                progress.notice(&format!("a checkpoint was not written: {error}"));
                false
            }
        }
    }

    /// Takes note of the checkpoint that was being written, where that is over.
    pub(super) fn watch_save(
        &self,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        match &run.saving {
            Some(saving) if saving.is_over() => self.await_save(run, progress),
            _ => Ok(()),
        }
    }

    /// Waits for the checkpoint that is being written, and for room where it has none and the settings say to wait.
    pub(super) fn await_save(
        &self,
        run: &mut ActiveRun,
        progress: &mut Progress,
    ) -> Result<(), TrainError> {
        let Some(saving) = run.saving.take() else {
            return Ok(());
        };
        match saving.wait() {
            Ok(left) => {
                tell_left(&left, progress);
                Ok(())
            }
            Err(failed) => {
                let (error, checkpoint) = *failed;
                let error = TrainError::from(error);
                match error.full_at() {
                    // There may be room by now.
                    Some(_) => self.write(&checkpoint, progress),
                    None => Err(error),
                }
            }
        }
    }

    fn checkpoint(&self, run: &ActiveRun) -> Checkpoint {
        Checkpoint {
            model: run.engine.weights(),
            optimizer: run.engine.optimizer(),
            state: run.state.clone(),
            origin: Some(self.origin.clone()),
        }
    }

    fn write(&self, checkpoint: &Checkpoint, progress: &mut Progress) -> Result<(), TrainError> {
        let left = self.persist(progress, self.checkpoint_bytes(), || {
            Ok(self.folder.checkpoints(self.parameters).save(checkpoint)?)
        })?;
        tell_left(&left, progress);
        Ok(())
    }

    /// Makes the files of one step of the run, as often as a full disk makes it fail and the settings say to wait.
    ///
    /// `needed` is about how many bytes they have.
    pub(super) fn persist<T>(
        &self,
        progress: &mut Progress,
        needed: u64,
        mut write: impl FnMut() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        const PAUSE: Duration = Duration::from_millis(200);
        let mut is_told = false;
        loop {
            let error = match write() {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            let Some(path) = error.full_at().map(Path::to_owned) else {
                return Err(error);
            };
            let error = self.disk_full(path, needed);
            if self.settings.on_disk_full == OnDiskFull::Stop || self.stop.requested().is_some() {
                return Err(error);
            }
            if !is_told {
                progress.notice(&format!("waiting for room: {error}"));
                is_told = true;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn disk_full(&self, path: PathBuf, needed: u64) -> TrainError {
        TrainError::DiskFull {
            path,
            needed: Some(needed),
            available: free_bytes(self.folder.path()),
            run_dir: self.folder.path().to_owned(),
            is_begun: self.folder.holds_a_run(),
        }
    }
}
