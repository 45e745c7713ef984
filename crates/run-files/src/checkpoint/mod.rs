//! Checkpoints: folders that are complete, hashed and verified, or not there.
//!
//! A checkpoint is `checkpoints/epoch-NNNN-batch-NNNNN/`, named by its [`Position`], with `model.safetensors`, `optimizer.safetensors`, `state.json` and
//! `manifest.json`. It is written under another name, the manifest last, everything synced, and then renamed. Loading
//! believes nothing that its manifest does not confirm, and falls back to the one before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::file_operations::{
    create_folder, read_at_most, remove_folder, rename, sync_folder, write_synced,
};
use crate::weights::{NamedValues, WeightsError, from_safetensors, to_safetensors};

mod manifest;
mod state;

pub use manifest::{Manifest, ManifestEntry};
pub use state::{Position, TrainingState};

use manifest::LARGEST_MANIFEST;
pub use manifest::hex;
use state::LARGEST_STATE;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
/// The files that a manifest lists, in its order.
const FILES: [&str; 3] = [MODEL, OPTIMIZER, STATE];
/// How many of the newest are kept, besides the best.
const KEPT: usize = 2;
/// Room for the names and shapes of a weights file.
const LARGEST_HEADER: u64 = 1 << 20;

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
    #[error(
        "no checkpoint in {} is intact; the newest failed with: {newest}; delete the folder to train from the start",
        .folder.display()
    )]
    NoneIntact {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// The newest one's error.
        newest: Box<CheckpointError>,
    },
}

impl CheckpointError {
    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::File { path, source } if crate::disk::is_full(source) => Some(path),
            _ => None,
        }
    }
}

/// A checkpoint, or what is wrong with it.
pub type Loaded = Result<Checkpoint, CheckpointError>;

/// The checkpoints of one run.
pub struct CheckpointFolder {
    folder: PathBuf,
    /// No file of a checkpoint may be larger, in bytes.
    largest: u64,
}

impl CheckpointFolder {
    /// The checkpoints below a run folder, of a model with so many parameters and running statistics.
    pub fn of_run(run_dir: &Path, parameters: usize) -> Self {
        Self {
            folder: run_dir.join("checkpoints"),
            // The optimizer keeps two float32 numbers a parameter.
            largest: (8 * parameters as u64 + LARGEST_HEADER).max(LARGEST_STATE),
        }
    }

    /// Writes a checkpoint, reads it back, and only then removes what is neither among the newest two nor the best.
    ///
    /// # Errors
    /// Where writing fails or what was read back differs; older checkpoints are untouched then.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let path = self.path(checkpoint.state.position());
        let unfinished = path.with_extension("tmp");
        self.remove_unfinished()?;
        // A run that is resumed and stopped before its next step has nothing new to save.
        if path.exists() && self.load(checkpoint.state.position()).is_ok() {
            return self.prune(&checkpoint.state);
        }
        create_folder(&unfinished).map_err(at(&unfinished))?;

        let weights = |values: &NamedValues, name: &str| {
            to_safetensors(values).map_err(|source| CheckpointError::Weights {
                path: path.join(name),
                source,
            })
        };
        let contents = [
            (MODEL, weights(&checkpoint.model, MODEL)?),
            (OPTIMIZER, weights(&checkpoint.optimizer, OPTIMIZER)?),
            (STATE, checkpoint.state.to_json()),
        ];
        let mut files = Vec::new();
        for (name, bytes) in &contents {
            let file = unfinished.join(name);
            write_synced(&file, bytes).map_err(at(&file))?;
            files.push(ManifestEntry::of(name, bytes));
        }
        let file = unfinished.join(MANIFEST);
        write_synced(&file, &Manifest::new(files).to_json()).map_err(at(&file))?;
        sync_folder(&unfinished).map_err(at(&unfinished))?;
        // One of that name is there only if it proved corrupt and the run went on from an older one.
        self.set_aside(&path)?;
        rename(&unfinished, &path).map_err(at(&path))?;
        sync_folder(&self.folder).map_err(at(&self.folder))?;

        self.verify(&path)?;
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
        for position in self.positions()?.into_iter().rev() {
            match self.load(position) {
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

    /// The checkpoint of a position.
    ///
    /// # Errors
    /// Where it is not there or does not pass its manifest.
    pub fn load(&self, position: Position) -> Result<Checkpoint, CheckpointError> {
        let path = self.path(position);
        let [model, optimizer, state] = self.verify(&path)?;
        let weights = |bytes: &[u8], name: &str| {
            from_safetensors(bytes).map_err(|source| CheckpointError::Weights {
                path: path.join(name),
                source,
            })
        };
        let state = TrainingState::parse(&state)
            .map_err(|error| corrupt(path.join(STATE), "a training state", error))?;
        if state.position() != position {
            return Err(corrupt(path.join(STATE), position, state.position()));
        }
        Ok(Checkpoint {
            model: weights(&model, MODEL)?,
            optimizer: weights(&optimizer, OPTIMIZER)?,
            state,
        })
    }

    /// The positions there are checkpoints of, ascending.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn positions(&self) -> Result<Vec<Position>, CheckpointError> {
        let names = self.names()?;
        let mut positions: Vec<Position> = names
            .iter()
            .filter_map(|name| Position::from_folder_name(name))
            .collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// Removes every checkpoint after a position.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn discard_after(&self, position: Position) -> Result<(), CheckpointError> {
        for newer in self
            .positions()?
            .into_iter()
            .filter(|found| *found > position)
        {
            self.set_aside(&self.path(newer))?;
        }
        Ok(())
    }

    /// Every checkpoint with what is wrong with it, if anything, oldest first.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn check_all(&self) -> Result<Vec<(Position, Loaded)>, CheckpointError> {
        let positions = self.positions()?.into_iter();
        Ok(positions
            .map(|position| (position, self.load(position)))
            .collect())
    }

    /// The three files of a checkpoint, if they are those of its manifest.
    fn verify(&self, path: &Path) -> Result<[Vec<u8>; 3], CheckpointError> {
        let file = path.join(MANIFEST);
        let manifest = read_at_most(&file, LARGEST_MANIFEST).map_err(at(&file))?;
        let entries = Manifest::parse(&manifest, &FILES, self.largest)
            .map_err(|(expected, found)| corrupt(file, expected, found))?;
        let mut contents = [const { Vec::new() }; 3];
        for (entry, content) in entries.iter().zip(&mut contents) {
            let file = path.join(&entry.name);
            *content = read_at_most(&file, entry.bytes).map_err(at(&file))?;
            if let Some((expected, found)) = entry.difference(content) {
                return Err(corrupt(file, expected, found));
            }
        }
        Ok(contents)
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

    fn path(&self, position: Position) -> PathBuf {
        self.folder.join(position.folder_name())
    }

    fn remove_unfinished(&self) -> Result<(), CheckpointError> {
        for name in self.names()? {
            if name.ends_with(".tmp") || name.ends_with(".old") {
                let path = self.folder.join(name);
                remove_folder(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// Takes a checkpoint away by one rename, so that none is ever half deleted under its own name.
    fn set_aside(&self, path: &Path) -> Result<(), CheckpointError> {
        if !path.exists() {
            return Ok(());
        }
        let doomed = path.with_extension("old");
        rename(path, &doomed).map_err(at(path))?;
        remove_folder(&doomed).map_err(at(&doomed))
    }

    fn prune(&self, state: &TrainingState) -> Result<(), CheckpointError> {
        // Newer ones proved corrupt and the run went on from an older one; they would count among the newest.
        self.discard_after(state.position())?;
        let positions = self.positions()?;
        let newest = positions.len().saturating_sub(KEPT);
        for position in &positions[..newest] {
            if Some(*position) != state.best {
                self.set_aside(&self.path(*position))?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod tests;
