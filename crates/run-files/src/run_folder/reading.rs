//! What a run's folder tells of it, also to those who do not take the folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::environment::{changed_settings, is_recorded};
use super::error::{RunFolderError, file_error};
use super::names::{CONFIG, ENVIRONMENT};
use crate::checkpoint::{CheckpointFolder, Origin, Position};
use crate::files::atomic_file::write_atomically;
use crate::files::file_operations::read_at_most;
use crate::settings::{Difference, Settings, differences};

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

/// Whether a run was begun in a folder: its settings are known there.
pub fn was_begun(run_dir: &Path) -> bool {
    run_dir.join(CONFIG).is_file() || holds_a_checkpoint(run_dir)
}

/// A folder whose `config.json` is lost still holds a run: no other may go on from its checkpoints.
pub(super) fn holds_a_checkpoint(run_dir: &Path) -> bool {
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
        let edited = unrecorded_differences(run_dir, &recorded, &settings);
        if !edited.is_empty() {
            return Err(RunFolderError::ConfigEdited {
                path: run_dir.join(CONFIG),
                differences: edited,
            });
        }
    }
    Ok(settings)
}

/// What differs between the settings of a checkpoint and later ones, but for what the run's record says was changed with the user's consent: a process
/// may end between that record and the next checkpoint, and an older checkpoint may be the newest one that is intact.
pub fn unrecorded_differences(
    run_dir: &Path,
    before: &Settings,
    after: &Settings,
) -> Vec<Difference> {
    let mut differences = differences(before, after);
    if !differences.is_empty() {
        let changed = read_environment(run_dir).map(|environment| changed_settings(&environment));
        let changed = changed.unwrap_or_default();
        differences.retain(|difference| !is_recorded(difference, &changed));
    }
    differences
}

/// Writes a lost `config.json` anew, from the newest checkpoint; whether there was need of it.
///
/// # Errors
/// Where the checkpoints cannot be listed, or the file not be written.
pub fn restore_config(run_dir: &Path) -> Result<bool, RunFolderError> {
    let path = run_dir.join(CONFIG);
    if path.exists() {
        return Ok(false);
    }
    let Some((_, settings, _)) = recorded_origin(run_dir)? else {
        return Ok(false);
    };
    write_atomically(&path, settings.to_json().as_bytes()).map_err(file_error(&path))?;
    Ok(true)
}

/// The settings in `config.json`, whoever wrote them there.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn read_config(run_dir: &Path) -> Result<Settings, RunFolderError> {
    let path = run_dir.join(CONFIG);
    if !path.is_file() && holds_a_checkpoint(run_dir) {
        return Err(RunFolderError::ConfigLost { path });
    }
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
