//! The folder of one run: what lies where, and that one process at a time works in it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic_file::write_atomically;
use crate::checkpoint::{CheckpointFolder, Position};
use crate::error::TrainerError;
use crate::settings::Settings;

/// The file that says how the run was configured; its presence marks a folder as a run's.
pub(crate) const CONFIG: &str = "config.json";
/// The file that says what the run ran on.
pub(crate) const ENVIRONMENT: &str = "environment.json";
const LOCK: &str = "lock";
/// Of the crate that tensors are computed with.
pub(crate) const BURN_VERSION: &str = "0.22.1";

/// A run folder this process has to itself until the value is dropped.
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Takes a folder for a new run, creating it where needed.
    ///
    /// # Errors
    /// Where a run is there already, another process works in it, or it cannot be created.
    pub fn create(path: &Path) -> Result<Self, TrainerError> {
        let folder = Self::lock(path)?;
        if folder.holds_a_run() {
            return Err(TrainerError::RunFolderInUse {
                path: path.to_owned(),
            });
        }
        Ok(folder)
    }

    /// Takes a folder to continue its run, or to begin one where there is none yet.
    ///
    /// # Errors
    /// Where another process works in it, or it cannot be created.
    pub fn resume(path: &Path) -> Result<Self, TrainerError> {
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, TrainerError> {
        for folder in ["", "samples", "reconstructions", "checkpoints"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        }
        let file = path.join(LOCK);
        let lock = File::create(&file).map_err(file_error(&file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(TrainerError::RunFolderLocked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(TrainerError::File { path: file, source }),
        }
    }

    /// Whether a run was begun here.
    pub fn holds_a_run(&self) -> bool {
        self.path.join(CONFIG).exists() || self.holds_a_checkpoint()
    }

    /// A folder whose `config.json` is lost still holds a run: no other may go on from its checkpoints.
    fn holds_a_checkpoint(&self) -> bool {
        let names = fs::read_dir(self.path.join("checkpoints"))
            .into_iter()
            .flatten();
        names.flatten().any(|entry| {
            let name = entry.file_name();
            name.to_str().and_then(Position::from_folder_name).is_some()
        })
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
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainerError> {
        let path = self.path.join(name);
        write_atomically(&path, bytes).map_err(file_error(&path))
    }

    /// Records how the run was configured and what it ran on.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn record(
        &self,
        settings: &Settings,
        data_hash: &str,
        data_source: &str,
    ) -> Result<(), TrainerError> {
        let environment = json!({
            "versions": {
                "trainer": env!("CARGO_PKG_VERSION"),
                "burn": BURN_VERSION,
                "rust": env!("CARGO_PKG_RUST_VERSION"),
            },
            // Given by `cargo xtask`, which knows the checkout.
            "commit": std::env::var("RESNET_VAE_COMMIT").ok(),
            "command": std::env::args().collect::<Vec<_>>(),
            "device": settings.device.to_string(),
            "threads": std::thread::available_parallelism().map(usize::from).ok(),
            "operating_system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "data_hash": data_hash,
            "data_source": data_source,
        });
        self.write(ENVIRONMENT, &pretty(&environment))?;
        // Last: from here on the folder holds a run.
        self.write(CONFIG, settings.to_json().as_bytes())
    }

    /// The hash of the data that the run was begun with.
    ///
    /// # Errors
    /// Where the record is missing or damaged.
    pub fn recorded_data_hash(&self) -> Result<String, TrainerError> {
        let path = self.path.join(ENVIRONMENT);
        let text = fs::read(&path).map_err(file_error(&path))?;
        let hash = serde_json::from_slice::<Value>(&text)
            .ok()
            .and_then(|environment| environment["data_hash"].as_str().map(str::to_owned));
        hash.ok_or(TrainerError::NoRun {
            path: self.path.clone(),
            missing: "readable environment.json",
        })
    }
}

/// The settings of the run in a folder.
///
/// # Errors
/// Where there is none, or its `config.json` is damaged.
pub fn read_settings(run_dir: &Path) -> Result<Settings, TrainerError> {
    let path = run_dir.join(CONFIG);
    if !path.exists() {
        return Err(TrainerError::NoRun {
            path: run_dir.to_owned(),
            missing: "run",
        });
    }
    Ok(Settings::read(&path)?)
}

/// Two-space indented JSON and a newline.
pub fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> TrainerError {
    let path = path.to_owned();
    |source| TrainerError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_run_is_refused_unless_resumed() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("run");
        let folder = RunFolder::create(&path).expect("new");
        folder
            .record(&Settings::default(), "abc", "embedded")
            .expect("recorded");
        assert_eq!(folder.recorded_data_hash().expect("readable"), "abc");
        drop(folder);
        let error = RunFolder::create(&path).err().expect("in use");
        assert!(error.to_string().contains("--resume"), "{error}");
        assert!(RunFolder::resume(&path).expect("resumable").holds_a_run());
        assert_eq!(read_settings(&path).expect("readable"), Settings::default());
    }

    #[test]
    fn checkpoints_without_a_configuration_are_not_taken_over() {
        let parent = tempfile::tempdir().expect("a folder");
        let checkpoint = parent.path().join("checkpoints/epoch-0001-batch-00000");
        fs::create_dir_all(checkpoint).expect("created");
        let error = RunFolder::create(parent.path()).err().expect("a run");
        assert!(
            matches!(error, TrainerError::RunFolderInUse { .. }),
            "{error}"
        );
    }

    #[test]
    fn one_process_at_a_time() {
        let parent = tempfile::tempdir().expect("a folder");
        let held = RunFolder::create(parent.path()).expect("new");
        let error = RunFolder::resume(parent.path()).err().expect("locked");
        assert!(
            matches!(error, TrainerError::RunFolderLocked { .. }),
            "{error}"
        );
        drop(held);
        RunFolder::resume(parent.path()).expect("free again");
    }
}
