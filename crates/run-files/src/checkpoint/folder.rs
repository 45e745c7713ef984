//! The checkpoints of a run: written, read back, listed and loaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, at, corrupt};
use super::manifest::{LARGEST_MANIFEST, Manifest, ManifestEntry, Origin};
use super::state::{LARGEST_STATE, Position, TrainingState};
use crate::files::atomic_file::write_atomically;
use crate::files::file_operations::{
    create_folder, read_at_most, rename, sync_folder, write_synced,
};
use crate::weights::{NamedValues, from_safetensors, to_safetensors};

pub(super) const MODEL: &str = "model.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const STATE: &str = "state.json";
pub(super) const MANIFEST: &str = "manifest.json";
/// The files that a manifest lists, in its order.
const FILES: [&str; 3] = [MODEL, OPTIMIZER, STATE];
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
    /// The settings and data that it was made with; none in one of an older program.
    pub origin: Option<Origin>,
}

/// A checkpoint, or what is wrong with it.
pub type Loaded = Result<Checkpoint, CheckpointError>;

/// The checkpoints of one run.
#[derive(Debug)]
pub struct CheckpointFolder {
    pub(super) folder: PathBuf,
    /// No file of a checkpoint may be larger, in bytes.
    largest: u64,
}

impl CheckpointFolder {
    /// The checkpoints below a run folder, of a model with so many parameters and running statistics.
    pub fn of_run(run_dir: &Path, parameters: usize) -> Self {
        Self {
            folder: run_dir.join("checkpoints"),
            // The optimizer keeps two float32 numbers a parameter, and a third where the weights are averaged.
            largest: (12 * parameters as u64 + LARGEST_HEADER).max(LARGEST_STATE),
        }
    }

    /// Writes a checkpoint, reads it back, and only then removes what is neither among the newest two nor the best of either.
    ///
    /// Returns what could not be removed, which harms nothing but takes room: NFS, for one, keeps files that are still open.
    ///
    /// # Errors
    /// Where writing fails or what was read back differs; older checkpoints are untouched then.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<Vec<CheckpointError>, CheckpointError> {
        let path = self.path(checkpoint.state.position());
        let unfinished = path.with_extension("tmp");
        let mut left = self.remove_unfinished()?;
        // A run that is resumed and stopped before its next step has nothing new to save.
        if path.exists() && self.load(checkpoint.state.position()).is_ok() {
            left.extend(self.prune(&checkpoint.state)?);
            return Ok(left);
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
        let manifest = Manifest::new(files, checkpoint.origin.clone());
        write_synced(&file, &manifest.to_json()).map_err(at(&file))?;
        sync_folder(&unfinished).map_err(at(&unfinished))?;
        // One of that name is there only if it proved corrupt and the run went on from an older one.
        left.extend(self.set_aside(&path)?);
        rename(&unfinished, &path).map_err(at(&path))?;
        sync_folder(&self.folder).map_err(at(&self.folder))?;

        self.verify(&path)?;
        left.extend(self.prune(&checkpoint.state)?);
        Ok(left)
    }

    /// Notes in a checkpoint that it goes on with other settings, as the user has allowed.
    ///
    /// # Errors
    /// Where it is not there or does not pass its manifest, or the system refuses.
    pub fn set_origin(&self, position: Position, origin: Origin) -> Result<(), CheckpointError> {
        let file = self.path(position).join(MANIFEST);
        let manifest = self.manifest(&self.path(position))?;
        let manifest = Manifest::new(manifest.files().to_vec(), Some(origin));
        write_atomically(&file, &manifest.to_json()).map_err(at(&file))
    }

    /// Position, settings and data of the newest checkpoint with a readable manifest that has them. Weights are not read.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn newest_origin(&self) -> Result<Option<(Position, Origin)>, CheckpointError> {
        let positions = self.positions()?.into_iter().rev();
        let mut origins = positions.filter_map(|position| {
            let manifest = self.manifest(&self.path(position)).ok()?;
            Some((position, manifest.origin()?.clone()))
        });
        Ok(origins.next())
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
        let ([model, optimizer, state], origin) = self.verify(&path)?;
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
            origin,
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

    /// Takes away every checkpoint after a position. Returns what could not be removed for good, which is no checkpoint any more.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn discard_after(
        &self,
        position: Position,
    ) -> Result<Vec<CheckpointError>, CheckpointError> {
        let mut left = Vec::new();
        for newer in self
            .positions()?
            .into_iter()
            .filter(|found| *found > position)
        {
            left.extend(self.set_aside(&self.path(newer))?);
        }
        Ok(left)
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

    fn manifest(&self, path: &Path) -> Result<Manifest, CheckpointError> {
        let file = path.join(MANIFEST);
        let manifest = read_at_most(&file, LARGEST_MANIFEST).map_err(at(&file))?;
        Manifest::parse(&manifest, &FILES, self.largest)
            .map_err(|(expected, found)| corrupt(file, expected, found))
    }

    /// The three files of a checkpoint, if they are those of its manifest, and what it was made with.
    fn verify(&self, path: &Path) -> Result<([Vec<u8>; 3], Option<Origin>), CheckpointError> {
        let manifest = self.manifest(path)?;
        let mut contents = [const { Vec::new() }; 3];
        for (entry, content) in manifest.files().iter().zip(&mut contents) {
            let file = path.join(&entry.name);
            *content = read_at_most(&file, entry.bytes).map_err(at(&file))?;
            if let Some((expected, found)) = entry.difference(content) {
                return Err(corrupt(file, expected, found));
            }
        }
        Ok((contents, manifest.origin().cloned()))
    }

    pub(super) fn names(&self) -> Result<Vec<String>, CheckpointError> {
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

    pub(super) fn path(&self, position: Position) -> PathBuf {
        self.folder.join(position.folder_name())
    }
}
