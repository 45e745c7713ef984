//! Taking checkpoints away: those that are no longer needed, and what was left half written.

use std::fs;
use std::io;
use std::path::Path;

use super::error::{CheckpointError, at};
use super::folder::{CheckpointFolder, STATE};
use super::state::{LARGEST_STATE, Position, TrainingState};
use crate::files::file_operations::{read_at_most, remove_folder, rename};

/// How many of the newest are kept, besides the best.
const KEPT: usize = 2;

impl CheckpointFolder {
    /// Removes what saves that were cut short have left, by its exact names: whatever else lies there is somebody's own.
    /// Returns what could not be removed.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn remove_unfinished(&self) -> Result<Vec<CheckpointError>, CheckpointError> {
        let names = self.names()?;
        let left_over = names.iter().filter(|name| is_left_over(name));
        Ok(left_over
            .filter_map(|name| self.remove(&self.folder.join(name)))
            .collect())
    }

    /// Takes a checkpoint away by one rename, so that none is ever half deleted under its own name, and removes it. Returns
    /// why it could not be removed.
    pub(super) fn set_aside(
        &self,
        path: &Path,
    ) -> Result<Option<CheckpointError>, CheckpointError> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(None);
        }
        // A name that an earlier removal has failed to free is passed over.
        let free = (0..SET_ASIDE_NAMES)
            .map(|number| match number {
                0 => path.with_extension("old"),
                number => path.with_extension(format!("{number}.old")),
            })
            .find(|doomed| fs::symlink_metadata(doomed).is_err());
        let Some(doomed) = free else {
            return Err(at(path)(io::ErrorKind::AlreadyExists.into()));
        };
        match rename(path, &doomed) {
            Ok(()) => Ok(self.remove(&doomed)),
            // A folder of a lower layer of an overlay can be removed, but not renamed.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                remove_folder(path).map_err(at(path)).map(|()| None)
            }
            Err(error) => Err(at(path)(error)),
        }
    }

    fn remove(&self, path: &Path) -> Option<CheckpointError> {
        remove_folder(path).map_err(at(path)).err()
    }

    pub(super) fn prune(
        &self,
        state: &TrainingState,
    ) -> Result<Vec<CheckpointError>, CheckpointError> {
        // Newer ones proved corrupt and the run went on from an older one; they would count among the newest.
        let mut left = self.discard_after(state.position())?;
        let positions = self.positions()?;
        let (older, kept) = positions.split_at(positions.len().saturating_sub(KEPT));
        let mut named = vec![state.best];
        for position in kept {
            match self.best_named_by(*position) {
                Ok(best) => named.push(best),
                // What it names is not known, so nothing is removed.
                Err(_) => return Ok(left),
            }
        }
        for position in older {
            if !named.contains(&Some(*position)) {
                // One that stays takes room, and is no reason to end a run.
                match self.set_aside(&self.path(*position)) {
                    Ok(not_removed) => left.extend(not_removed),
                    Err(error) => left.push(error),
                }
            }
        }
        Ok(left)
    }

    /// The checkpoint of the best epoch, as another one has it, which the run may have to go on from; none where that one is damaged.
    fn best_named_by(&self, position: Position) -> io::Result<Option<Position>> {
        let state = read_at_most(&self.path(position).join(STATE), LARGEST_STATE)?;
        Ok(TrainingState::parse(&state)
            .ok()
            .and_then(|state| state.best))
    }
}

/// Names that a checkpoint can be set aside under.
const SET_ASIDE_NAMES: u32 = 100;

/// Whether this is the name of a checkpoint that was being written or removed.
fn is_left_over(name: &str) -> bool {
    let Some((position, ending)) = name.split_once('.') else {
        return false;
    };
    let number = ending.strip_suffix(".old");
    let is_ending = ending == "tmp"
        || ending == "old"
        || number.is_some_and(|number| number.parse::<u32>().is_ok());
    is_ending && Position::from_folder_name(position).is_some()
}
