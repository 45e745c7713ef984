//! The folder of one run: what lies where, and that one process at a time works in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::atomic_file::write_atomically;
use crate::checkpoint::{CheckpointError, CheckpointFolder, Origin, Position};
use crate::disk::is_full;
use crate::file_operations::{open_no_link, read_at_most, try_lock};
use crate::metrics::{METRICS_CSV, METRICS_JSONL, TIMING_JSONL};
use crate::settings::{Difference, Settings, SettingsError, differences};
use crate::shell::quoted_path;

mod environment;

pub use environment::{RECORD_FORMAT, changed_settings, commits};

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
    #[error("{} holds no {missing}; train there first with `cargo xtask train --run-dir {}`", .path.display(), quoted_path(.path))]
    NoRun {
        /// The run folder.
        path: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// A run was to be continued, and there is none.
    #[error(
        "there is nothing to resume in {}: check `--run-dir`, or begin a run there with `--resume=or-start`",
        .path.display()
    )]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// The settings beside a checkpoint are not those that it was made with.
    #[error(
        "{} was edited: the newest checkpoint was made with other settings ({}, in the order checkpoint -> file); undo that, \
         the checkpoints are fine",
        .path.display(), list(.differences)
    )]
    ConfigEdited {
        /// The `config.json`.
        path: PathBuf,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// A run folder leads out of itself.
    #[error("{} is a symbolic link, through which files elsewhere would change; remove it, or copy what it stands for there", .path.display())]
    LinkInside {
        /// The link.
        path: PathBuf,
    },
    /// A pipe or a device stands where a run writes a file.
    #[error("{} is not a regular file, and a run writes one there; remove it", .path.display())]
    NoRegularFile {
        /// What stands there.
        path: PathBuf,
    },
    /// Its checkpoints could not be looked at.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
            Self::InUse { .. }
            | Self::Locked { .. }
            | Self::NoRun { .. }
            | Self::NothingToResume { .. }
            | Self::ConfigEdited { .. }
            | Self::LinkInside { .. }
            | Self::NoRegularFile { .. }
            | Self::Settings(_) => 2,
            Self::Checkpoint(_) => 20,
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

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// A run folder this process has to itself until the value is dropped, or knows by name.
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

/// An `environment.json` has a few lines for each process that went on with the run.
const LARGEST_ENVIRONMENT: u64 = 1 << 26;

/// The `environment.json` of a run, whoever wrote it there.
///
/// # Errors
/// Where it cannot be read or is no JSON.
pub fn read_environment(run_dir: &Path) -> std::io::Result<Value> {
    let bytes = read_at_most(&run_dir.join(ENVIRONMENT), LARGEST_ENVIRONMENT)?;
    Ok(serde_json::from_slice(&bytes)?)
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
        let mut now = environment::of_this_process(settings, data_hash, data_source);
        if let Some(name) = &self.matrix_products {
            now["matrix_products"] = name.as_str().into();
        }
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

/// Whether a run was begun in a folder, or a process has been about to begin one there.
pub fn was_begun(run_dir: &Path) -> bool {
    [CONFIG, LOCK]
        .iter()
        .any(|name| run_dir.join(name).is_file())
        || holds_a_checkpoint(run_dir)
}

/// A folder whose `config.json` is lost still holds a run: no other may go on from its checkpoints.
fn holds_a_checkpoint(run_dir: &Path) -> bool {
    let names = fs::read_dir(run_dir.join("checkpoints"))
        .into_iter()
        .flatten();
    names.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(Position::from_folder_name).is_some()
    })
}

/// The settings of the run in a folder, which its newest checkpoint confirms where there is one.
///
/// # Errors
/// Where there is none, its `config.json` is damaged, or it was edited: the checkpoint was made with other settings.
pub fn read_settings(run_dir: &Path) -> Result<Settings, RunFolderError> {
    let settings = read_config(run_dir)?;
    if let Some((_, recorded, _)) = recorded_origin(run_dir)? {
        let edited = differences(&recorded, &settings);
        if !edited.is_empty() {
            return Err(RunFolderError::ConfigEdited {
                path: run_dir.join(CONFIG),
                differences: edited,
            });
        }
    }
    Ok(settings)
}

/// The settings in `config.json`, whoever wrote them there.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn read_config(run_dir: &Path) -> Result<Settings, RunFolderError> {
    let path = run_dir.join(CONFIG);
    if !path.is_file() {
        return Err(RunFolderError::NoRun {
            path: run_dir.to_owned(),
            missing: "run",
        });
    }
    Ok(Settings::read(&path)?)
}

/// The settings and the data hash that the newest checkpoint was made with; none without a checkpoint that has them.
///
/// # Errors
/// Where the checkpoints cannot be listed, or the settings are of a newer program.
pub fn recorded_origin(
    run_dir: &Path,
) -> Result<Option<(Position, Settings, String)>, RunFolderError> {
    // No file of weights is read, so their size does not matter.
    let checkpoints = CheckpointFolder::of_run(run_dir, usize::MAX / 16);
    let Some((position, origin)) = checkpoints.newest_origin()? else {
        return Ok(None);
    };
    let Origin {
        settings,
        data_hash,
    } = origin;
    let path = run_dir.join("checkpoints").join(position.folder_name());
    let settings = Settings::from_recorded(&path.join("manifest.json"), &settings)?;
    Ok(Some((position, settings, data_hash)))
}

/// The hash of the data that the run in a folder was made with: as its newest checkpoint has it, else as `environment.json`.
///
/// # Errors
/// Where neither can be read.
pub fn recorded_data_hash(run_dir: &Path) -> Result<String, RunFolderError> {
    if let Some((_, _, hash)) = recorded_origin(run_dir)? {
        return Ok(hash);
    }
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let environment = match read_environment(run_dir) {
        Ok(environment) => environment,
        // No JSON, or the beginning of one.
        Err(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => Value::Null,
        Err(error) => return Err(file_error(&run_dir.join(ENVIRONMENT))(error)),
    };
    let hash = environment["data_hash"].as_str().map(str::to_owned);
    hash.ok_or(RunFolderError::NoRun {
        path: run_dir.to_owned(),
        missing: "readable environment.json",
    })
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
            .record(&Settings::default(), "abc", "embedded", &[])
            .expect("recorded");
        assert_eq!(recorded_data_hash(&path).expect("readable"), "abc");
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

    #[test]
    fn what_was_first_and_what_came_later_are_both_recorded() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = RunFolder::create(parent.path()).expect("new");
        let read = || {
            let bytes = fs::read(parent.path().join(ENVIRONMENT)).expect("readable");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        };
        let settings = Settings::default();
        folder
            .record(&settings, "abc", "here", &[])
            .expect("recorded");
        let first = read();
        assert!(first["resumed"].is_null() && changed_settings(&first).is_empty());
        // The compiler's own words, not the version that the manifest asks for at least.
        let rust = first["versions"]["rust"].as_str().expect("a version");
        assert!(rust.starts_with("rustc 1."), "{rust}");
        let slower = Settings {
            learning_rate: 0.0005,
            ..settings.clone()
        };
        let changed = differences(&settings, &slower);
        folder
            .record(&slower, "abc", "here", &changed)
            .expect("recorded");
        folder
            .record(&slower, "abc", "there", &[])
            .expect("recorded");
        folder
            .record(&slower, "abc", "there", &[])
            .expect("recorded");
        let mut last = read();
        let resumed = last["resumed"].take();
        let resumed = resumed.as_array().expect("a list");
        assert_eq!(resumed.len(), 2, "equal ones count once: {resumed:?}");
        assert_eq!(
            resumed[0]["changed_settings"][0],
            "learning_rate: 0.001 -> 0.0005"
        );
        assert_eq!(resumed[1]["data_source"], "there");
        assert_eq!(
            changed_settings(&read()),
            ["learning_rate: 0.001 -> 0.0005"]
        );
        last.as_object_mut().expect("an object").remove("resumed");
        assert_eq!(last, first);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_of_the_folder_are_refused_and_nothing_behind_them_is_touched() {
        for name in FOLDERS.into_iter().chain(FILES) {
            let parent = tempfile::tempdir().expect("a folder");
            let victim = parent.path().join("victim");
            if matches!(name, "samples" | "reconstructions" | "checkpoints") {
                fs::create_dir_all(victim.join("photos.old")).expect("created");
            } else {
                fs::write(&victim, b"keep").expect("written");
            }
            let run_dir = parent.path().join("run");
            fs::create_dir(&run_dir).expect("created");
            std::os::unix::fs::symlink(&victim, run_dir.join(name)).expect("linked");
            let error = RunFolder::resume(&run_dir).err().expect("refused");
            assert_eq!(error.exit_code(), 2, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            assert!(
                victim.join("photos.old").exists()
                    || fs::read(&victim).is_ok_and(|bytes| bytes == b"keep")
            );
        }
        // In place of a checkpoint: with changed settings its manifest is written anew.
        let parent = tempfile::tempdir().expect("a folder");
        let (run_dir, victim) = (parent.path().join("run"), parent.path().join("victim"));
        fs::create_dir_all(run_dir.join("checkpoints")).expect("created");
        fs::create_dir(&victim).expect("created");
        let inside = run_dir.join("checkpoints/epoch-0001-batch-00000");
        std::os::unix::fs::symlink(&victim, &inside).expect("linked");
        let error = RunFolder::resume(&run_dir).err().expect("refused");
        assert!(
            matches!(error, RunFolderError::LinkInside { .. }),
            "{error}"
        );

        // The folder itself may be one.
        let parent = tempfile::tempdir().expect("a folder");
        fs::create_dir(parent.path().join("elsewhere")).expect("created");
        let linked = parent.path().join("run");
        std::os::unix::fs::symlink(parent.path().join("elsewhere"), &linked).expect("linked");
        RunFolder::create(&linked).expect("taken");
    }

    /// Opening a pipe waits for somebody at its other end.
    #[cfg(unix)]
    #[test]
    fn pipes_in_place_of_files_are_refused_at_once() {
        let pipe = |path: &Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.expect("mkfifo is there").success());
        };
        for name in FILES {
            let parent = tempfile::tempdir().expect("a folder");
            pipe(&parent.path().join(name));
            let error = RunFolder::resume(parent.path()).err().expect("refused");
            assert!(
                matches!(error, RunFolderError::NoRegularFile { .. }),
                "{error}"
            );
        }
        let parent = tempfile::tempdir().expect("a folder");
        for name in [CONFIG, ENVIRONMENT] {
            pipe(&parent.path().join(name));
        }
        read_settings(parent.path()).expect_err("no settings");
        recorded_data_hash(parent.path()).expect_err("no hash");
    }
}
