//! The folder of one run: what lies where, and that one process at a time works in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::{CheckpointFolder, Position};
use crate::files::atomic_file::write_atomically;
use crate::files::file_operations::{open_no_link, try_lock};
use crate::metrics::{METRICS_CSV, METRICS_JSONL, TIMING_JSONL};
use crate::settings::{Difference, Settings};

mod default_folder;
mod environment;
mod error;
mod names;
mod reading;

pub use default_folder::default_run_dir;
pub use environment::{RECORD_FORMAT, changed_settings, commits};
pub use error::{RunFolderError, file_error};
use names::LOCK;
pub use names::{
    BURN_VERSION, CONFIG, DECODER, ENCODER, ENVIRONMENT, FINAL_RECONSTRUCTIONS, FINAL_SAMPLES,
    MODEL, REFERENCE, SUMMARY,
};
use reading::holds_a_checkpoint;
pub use reading::{
    read_config, read_environment, read_settings, recorded_data_hash, recorded_origin,
    restore_config, unrecorded_differences, was_begun,
};

/// A run folder this process has to itself until the value is dropped, or knows by name.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    is_locked: bool,
    _lock: Option<File>,
    matrix_products: Option<String>,
}

/// The folders and files that a run writes to under one name for its whole life, where a link would lead out of the run folder.
/// The run folder itself may be a link.
const FOLDERS: [&str; 3] = ["samples", "reconstructions", "checkpoints"];
const FILES: [&str; 4] = [LOCK, METRICS_JSONL, METRICS_CSV, TIMING_JSONL];

/// A folder that was handed over may hold links to files that are not its own, also in place of a checkpoint, whose manifest
/// is written anew where settings change; and pipes, on which a run would wait for ever.
fn refuse_links(run_dir: &Path) -> Result<(), RunFolderError> {
    let kind = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    let checkpoints = fs::read_dir(run_dir.join("checkpoints"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().and_then(Position::from_folder_name).is_some()
        })
        .map(|entry| entry.path());
    let named = FOLDERS.iter().chain(&FILES).map(|name| run_dir.join(name));
    for path in named.chain(checkpoints) {
        if kind(&path).is_ok_and(|kind| kind.is_symlink()) {
            return Err(RunFolderError::LinkInside { path });
        }
    }
    for path in FILES.map(|name| run_dir.join(name)) {
        if kind(&path).is_ok_and(|kind| !kind.is_file()) {
            return Err(RunFolderError::NoRegularFile { path });
        }
    }
    Ok(())
}

impl RunFolder {
    /// Takes a folder for a new run, creating it where needed.
    ///
    /// # Errors
    /// Where a run is there already, another process works in it, or it cannot be created.
    pub fn create(path: &Path) -> Result<Self, RunFolderError> {
        let folder = Self::lock(path)?;
        if folder.holds_a_run() {
            return Err(RunFolderError::InUse {
                path: path.to_owned(),
            });
        }
        Ok(folder)
    }

    /// Takes a folder to continue its run, or to begin one where there is none yet.
    ///
    /// # Errors
    /// Where another process works in it, or it cannot be created.
    pub fn resume(path: &Path) -> Result<Self, RunFolderError> {
        Self::lock(path)
    }

    /// The folder of a run that another process writes, for its name alone.
    pub fn of_another(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_locked: false,
            _lock: None,
            matrix_products: None,
        }
    }

    /// What multiplies matrices on the run's device, for [`record`](Self::record).
    pub fn set_matrix_products(&mut self, name: Option<String>) {
        self.matrix_products = name;
    }

    fn lock(path: &Path) -> Result<Self, RunFolderError> {
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            return Err(RunFolderError::NotAFolder {
                path: path.to_owned(),
            });
        }
        for folder in std::iter::once("").chain(FOLDERS) {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        }
        refuse_links(path)?;
        let file = path.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let lock = open_no_link(options, &file).map_err(file_error(&file))?;
        match try_lock(&lock) {
            Ok(is_locked) => Ok(Self {
                path: path.to_owned(),
                is_locked,
                _lock: Some(lock),
                matrix_products: None,
            }),
            Err(TryLockError::WouldBlock) => Err(RunFolderError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(RunFolderError::File { path: file, source }),
        }
    }

    /// Whether other processes are kept out; false on file systems that have no locks.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Whether a run was begun here.
    pub fn holds_a_run(&self) -> bool {
        self.path.join(CONFIG).exists() || holds_a_checkpoint(&self.path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The run's checkpoints, of a model with so many parameters and running statistics.
    pub fn checkpoints(&self, parameters: usize) -> CheckpointFolder {
        CheckpointFolder::of_run(&self.path, parameters)
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunFolderError> {
        let path = self.path.join(name);
        write_atomically(&path, bytes).map_err(file_error(&path))
    }

    /// Records how the run was configured and what it runs on. What ran before in this folder stays recorded, with the settings
    /// that were `changed` since.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn record(
        &self,
        settings: &Settings,
        data_hash: &str,
        data_source: &str,
        changed: &[Difference],
    ) -> Result<(), RunFolderError> {
        let products = self.matrix_products.as_deref();
        let now = environment::of_this_process(settings, data_hash, data_source, products);
        let before = read_environment(&self.path).ok();
        let environment = match before.filter(|_| self.holds_a_run()) {
            Some(before) => environment::resumed(before, now, changed),
            None => now,
        };
        self.write(ENVIRONMENT, &pretty(&environment))?;
        // Last: from here on the folder holds a run.
        self.write(CONFIG, settings.to_json().as_bytes())
    }
}

/// Two-space indented JSON and a newline.
pub fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests;
