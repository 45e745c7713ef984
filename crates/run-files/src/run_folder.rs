//! The folder of one run: what lies where, and that one process at a time works in it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic_file::write_atomically;
use crate::checkpoint::{CheckpointFolder, Position};
use crate::disk::is_full;
use crate::settings::{Settings, SettingsError};

/// The file that says how the run was configured; its presence marks a folder as a run's.
pub const CONFIG: &str = "config.json";
/// The file that says what the run ran on.
pub const ENVIRONMENT: &str = "environment.json";
/// Weights of the whole model.
pub const MODEL: &str = "model.safetensors";
/// Weights of the encoder alone, names without `encoder.`.
pub const ENCODER: &str = "encoder.safetensors";
/// Weights of the decoder alone, names without `decoder.`.
pub const DECODER: &str = "decoder.safetensors";
/// Eight test images with what the model makes of them, for checking another implementation.
pub const REFERENCE: &str = "reference.safetensors";
/// Results.
pub const SUMMARY: &str = "summary.json";
/// A finished run's hundred draws from the prior; of the best epoch's weights.
pub const FINAL_SAMPLES: &str = "samples/final-10x10.png";
/// A finished run's reconstructions of the first twenty test images; of the best epoch's weights.
pub const FINAL_RECONSTRUCTIONS: &str = "reconstructions/final.png";
const LOCK: &str = "lock";
/// Of the crate that tensors are computed with.
pub const BURN_VERSION: &str = "0.22.1";

/// Why a run's folder could not be taken, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// A run is there already.
    #[error(
        "{} holds a run; continue it with `--resume`, or name another folder with `--run-dir`",
        .path.display()
    )]
    InUse {
        /// The run folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("another process is training in {}; wait for it, or name another folder with `--run-dir`", .path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// There is no finished or running training in the folder.
    #[error("{} holds no {missing}; train there first with `cargo xtask train --run-dir {}`", .path.display(), .path.display())]
    NoRun {
        /// The run folder.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// Its `config.json` is damaged.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of the run folder could not be written or read.
    #[error("{}: {source}; check the folder's permissions and the free space", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
}

impl RunFolderError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } | Self::Locked { .. } | Self::NoRun { .. } | Self::Settings(_) => 2,
            Self::File { .. } => 21,
        }
    }

    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::File { path, source } if is_full(source) => Some(path),
            _ => None,
        }
    }
}

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

    fn lock(path: &Path) -> Result<Self, RunFolderError> {
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
            Err(TryLockError::WouldBlock) => Err(RunFolderError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(RunFolderError::File { path: file, source }),
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
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunFolderError> {
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
    ) -> Result<(), RunFolderError> {
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
    pub fn recorded_data_hash(&self) -> Result<String, RunFolderError> {
        let path = self.path.join(ENVIRONMENT);
        let text = fs::read(&path).map_err(file_error(&path))?;
        let hash = serde_json::from_slice::<Value>(&text)
            .ok()
            .and_then(|environment| environment["data_hash"].as_str().map(str::to_owned));
        hash.ok_or(RunFolderError::NoRun {
            path: self.path.clone(),
            missing: "readable environment.json",
        })
    }
}

/// The settings of the run in a folder.
///
/// # Errors
/// Where there is none, or its `config.json` is damaged.
pub fn read_settings(run_dir: &Path) -> Result<Settings, RunFolderError> {
    let path = run_dir.join(CONFIG);
    if !path.exists() {
        return Err(RunFolderError::NoRun {
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

/// The error of an operation on `path`, for `map_err`.
pub fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> RunFolderError {
    let path = path.to_owned();
    |source| RunFolderError::File { path, source }
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
        assert!(matches!(error, RunFolderError::InUse { .. }), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let parent = tempfile::tempdir().expect("a folder");
        let held = RunFolder::create(parent.path()).expect("new");
        let error = RunFolder::resume(parent.path()).err().expect("locked");
        assert!(matches!(error, RunFolderError::Locked { .. }), "{error}");
        drop(held);
        RunFolder::resume(parent.path()).expect("free again");
    }
}
