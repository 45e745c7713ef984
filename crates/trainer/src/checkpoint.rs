//! Checkpoints: folders that are complete, hashed and verified, or not there.
//!
//! A checkpoint is `checkpoints/epoch-NNNN/` with `model.safetensors`, `optimizer.safetensors`, `state.json` and
//! `manifest.json`. It is written under another name, the manifest last, everything synced, and then renamed. Loading
//! believes nothing that its manifest does not confirm, and falls back to the one before.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic_file::{sync_folder, write_synced};
use crate::metrics::MetricsLengths;
use crate::schedule::Schedule;
use crate::weights::{NamedValues, WeightsError, from_safetensors, to_safetensors};

const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
const FILES: [&str; 3] = [MODEL, OPTIMIZER, STATE];
/// How many of the newest are kept, besides the best.
const KEPT: usize = 2;
/// A manifest or a state is a few hundred bytes.
const LARGEST_JSON: u64 = 1 << 20;

/// What a run needs to go on, besides weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// Completed epochs.
    pub epoch: u32,
    /// Completed steps.
    pub step: u64,
    /// Learning-rate halving and early stopping.
    pub schedule: Schedule,
    /// Lengths of the metric files after the last completed epoch, in bytes.
    pub metrics: MetricsLengths,
    /// The stopping rule has been met.
    pub stopped: bool,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Parameters and running statistics.
    pub model: NamedValues,
    /// Both moments of every parameter.
    pub optimizer: NamedValues,
    /// The rest.
    pub state: TrainingState,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("checkpoint {}: {source}; check the folder's permissions and the free space, then resume with `--resume`", .path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// A file is not what the manifest says.
    #[error("checkpoint file {}: expected {expected}, found {found}; delete the checkpoint's folder and resume with `--resume`", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// By the manifest.
        expected: String,
        /// On disk.
        found: String,
    },
    /// Tensors are not those of the model.
    #[error("checkpoint file {}: {source}; delete the checkpoint's folder and resume with `--resume`", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// No checkpoint passes its manifest.
    #[error("no checkpoint in {} is intact; the newest failed with: {newest}", .folder.display())]
    NoneIntact {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// The newest one's error.
        newest: Box<CheckpointError>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: Vec<ManifestEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// The checkpoints of one run.
pub struct CheckpointFolder {
    folder: PathBuf,
}

impl CheckpointFolder {
    /// The checkpoints below a run folder.
    pub fn of_run(run_dir: &Path) -> Self {
        Self {
            folder: run_dir.join("checkpoints"),
        }
    }

    /// Writes a checkpoint, reads it back, and only then removes what is neither among the newest two nor the best.
    ///
    /// # Errors
    /// Where writing fails or what was read back differs; older checkpoints are untouched then.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let path = self.path(checkpoint.state.epoch);
        let unfinished = path.with_extension("tmp");
        self.remove_unfinished()?;
        fs::create_dir_all(&unfinished).map_err(at(&unfinished))?;

        let state = serde_json::to_vec_pretty(&checkpoint.state)
            .map_err(|error| at(&path)(error.into()))?;
        let weights = |values: &NamedValues, name: &str| {
            to_safetensors(values).map_err(|source| CheckpointError::Weights {
                path: path.join(name),
                source,
            })
        };
        let contents = [
            (MODEL, weights(&checkpoint.model, MODEL)?),
            (OPTIMIZER, weights(&checkpoint.optimizer, OPTIMIZER)?),
            (STATE, state),
        ];
        let mut files = Vec::new();
        for (name, bytes) in &contents {
            let file = unfinished.join(name);
            write_synced(&file, bytes).map_err(at(&file))?;
            files.push(ManifestEntry {
                name: name.to_string(),
                bytes: bytes.len() as u64,
                sha256: hex(&Sha256::digest(bytes)),
            });
        }
        let manifest = serde_json::to_vec_pretty(&Manifest {
            format: FORMAT,
            files,
        })
        .map_err(|error| at(&path)(error.into()))?;
        let file = unfinished.join(MANIFEST);
        write_synced(&file, &manifest).map_err(at(&file))?;
        sync_folder(&unfinished).map_err(at(&unfinished))?;
        // One of that name is there only if it proved corrupt and the run went on from an older one.
        remove_folder(&path)?;
        fs::rename(&unfinished, &path).map_err(at(&path))?;
        sync_folder(&self.folder).map_err(at(&self.folder))?;

        verify(&path)?;
        self.prune(&checkpoint.state)
    }

    /// The newest checkpoint that passes its manifest, and the errors of newer ones; none in a run without any.
    ///
    /// # Errors
    /// Where there are checkpoints and none is intact.
    pub fn load_newest(
        &self,
    ) -> Result<Option<(Checkpoint, Vec<CheckpointError>)>, CheckpointError> {
        let mut failures = Vec::new();
        for epoch in self.epochs()?.into_iter().rev() {
            match self.load(epoch) {
                Ok(checkpoint) => return Ok(Some((checkpoint, failures))),
                Err(error) => failures.push(error),
            }
        }
        match failures.into_iter().next() {
            None => Ok(None),
            Some(newest) => Err(CheckpointError::NoneIntact {
                folder: self.folder.clone(),
                newest: Box::new(newest),
            }),
        }
    }

    /// The checkpoint of one epoch.
    ///
    /// # Errors
    /// Where it is not there or does not pass its manifest.
    pub fn load(&self, epoch: u32) -> Result<Checkpoint, CheckpointError> {
        let path = self.path(epoch);
        let [model, optimizer, state] = verify(&path)?;
        let weights = |bytes: &[u8], name: &str| {
            from_safetensors(bytes).map_err(|source| CheckpointError::Weights {
                path: path.join(name),
                source,
            })
        };
        let state: TrainingState = serde_json::from_slice(&state)
            .map_err(|error| corrupt(path.join(STATE), "a training state", error))?;
        if state.epoch != epoch {
            return Err(corrupt(
                path.join(STATE),
                format!("epoch {epoch}"),
                format!("epoch {}", state.epoch),
            ));
        }
        Ok(Checkpoint {
            model: weights(&model, MODEL)?,
            optimizer: weights(&optimizer, OPTIMIZER)?,
            state,
        })
    }

    /// The epochs there are checkpoints of, ascending.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn epochs(&self) -> Result<Vec<u32>, CheckpointError> {
        let mut epochs: Vec<u32> = self
            .names()?
            .iter()
            .filter_map(|name| name.strip_prefix("epoch-")?.parse().ok())
            .collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&self.folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&self.folder))?.file_name();
            names.extend(name.into_string());
        }
        Ok(names)
    }

    fn path(&self, epoch: u32) -> PathBuf {
        self.folder.join(format!("epoch-{epoch:04}"))
    }

    fn remove_unfinished(&self) -> Result<(), CheckpointError> {
        for name in self.names()?.iter().filter(|name| name.ends_with(".tmp")) {
            remove_folder(&self.folder.join(name))?;
        }
        Ok(())
    }

    fn prune(&self, state: &TrainingState) -> Result<(), CheckpointError> {
        let best = state.schedule.best.map(|(_, epoch)| epoch);
        let epochs = self.epochs()?;
        let newest = epochs.len().saturating_sub(KEPT);
        for epoch in &epochs[..newest] {
            if Some(*epoch) != best {
                // First out of the way by one rename, so that none is ever half deleted under its own name.
                let path = self.path(*epoch);
                let doomed = path.with_extension("tmp");
                fs::rename(&path, &doomed).map_err(at(&path))?;
                remove_folder(&doomed)?;
            }
        }
        Ok(())
    }
}

/// The three files of a checkpoint, if they are those of its manifest.
fn verify(path: &Path) -> Result<[Vec<u8>; 3], CheckpointError> {
    let manifest_path = path.join(MANIFEST);
    let manifest = read_at_most(&manifest_path, LARGEST_JSON)?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|error| corrupt(manifest_path.clone(), "a manifest", error))?;
    if manifest.format != FORMAT {
        return Err(corrupt(
            manifest_path,
            format!("format {FORMAT}"),
            format!("format {}", manifest.format),
        ));
    }
    let names: Vec<&str> = manifest
        .files
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    if names != FILES {
        return Err(corrupt(
            manifest_path,
            format!("{FILES:?}"),
            format!("{names:?}"),
        ));
    }
    let mut contents = [const { Vec::new() }; 3];
    for (entry, content) in manifest.files.iter().zip(&mut contents) {
        let file = path.join(&entry.name);
        *content = read_at_most(&file, entry.bytes)?;
        let found = hex(&Sha256::digest(&*content));
        if content.len() as u64 != entry.bytes {
            return Err(corrupt(
                file,
                format!("{} bytes", entry.bytes),
                format!("{} bytes", content.len()),
            ));
        }
        if found != entry.sha256 {
            return Err(corrupt(file, format!("sha256 {}", entry.sha256), found));
        }
    }
    Ok(contents)
}

/// Reads a file, at most one byte more than it should have.
fn read_at_most(path: &Path, bytes: u64) -> Result<Vec<u8>, CheckpointError> {
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(at(path))?;
    file.take(bytes.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(at(path))?;
    Ok(content)
}

fn remove_folder(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(at(path)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    |source| CheckpointError::File { path, source }
}

fn corrupt(path: PathBuf, expected: impl ToString, found: impl ToString) -> CheckpointError {
    CheckpointError::Corrupt {
        path,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
