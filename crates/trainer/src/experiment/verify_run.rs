//! Whether everything in a run folder is what the run wrote.

use std::path::Path;

use burn::prelude::*;

use super::error::ExperimentError;
use crate::experiment::model::model_config;
use crate::experiment::weights::{from_safetensors, load_values};
use run_files::checkpoint::{CheckpointFolder, Position};
use run_files::file_operations::read_at_most;
use run_files::metrics::{METRICS_CSV, METRICS_JSONL, read_rows};
use run_files::run_folder::{DECODER, ENCODER, MODEL, read_settings};

/// One thing looked at, and what is wrong with it.
#[derive(Debug)]
pub struct Finding {
    /// The file or folder, relative to the run folder.
    pub name: String,
    /// What is wrong; none where it is as it should be.
    pub problem: Option<String>,
    /// The exit code that the problem stands for.
    pub exit_code: u8,
}

/// Checks the configuration, every checkpoint's manifest, hashes and tensors, the rows of both metrics files against each
/// other and against the newest checkpoint, and the exported weights of a finished run.
///
/// # Errors
/// Where the folder holds no run, or cannot be read.
pub fn verify_run(run_dir: &Path, device: &Device) -> Result<Vec<Finding>, ExperimentError> {
    let settings = read_settings(run_dir)?;
    let config = model_config(&settings)?;
    let model = config.init(device);
    let parameters = model.num_params();
    let mut findings = vec![finding("config.json", 2, Ok::<(), ExperimentError>(()))];

    let checkpoints = CheckpointFolder::of_run(run_dir, parameters);
    let mut newest = None;
    for (position, loaded) in checkpoints.check_all()? {
        let name = format!("checkpoints/{}", position.folder_name());
        let fits = loaded.and_then(|checkpoint| {
            load_values(model.clone(), &checkpoint.model).map_err(|source| {
                run_files::checkpoint::CheckpointError::Weights {
                    path: run_dir.join(&name),
                    source,
                }
            })?;
            newest = Some(checkpoint.state);
            Ok(())
        });
        findings.push(finding(&name, 20, fits));
    }

    if run_dir.join(METRICS_JSONL).exists() {
        let rows = read_rows(&run_dir.join(METRICS_JSONL));
        let (epochs, rows) = match rows {
            Ok(rows) => {
                let consecutive = rows.iter().zip(1..).all(|(row, epoch)| row.epoch == epoch);
                let state = newest.as_ref();
                let enough = state.is_none_or(|state| rows.len() as u32 >= state.epoch);
                let problem = match (consecutive, enough) {
                    (false, _) => Err("the epochs are not 1, 2, 3, ..."),
                    (true, false) => Err("rows that the newest checkpoint counts are missing"),
                    (true, true) => Ok(()),
                };
                (rows.len(), problem.map_err(str::to_owned))
            }
            Err(error) => (0, Err(error.to_string())),
        };
        findings.push(finding(METRICS_JSONL, 21, rows));
        findings.push(finding(
            METRICS_CSV,
            21,
            csv_rows(
                run_dir,
                newest.as_ref().map_or(epochs, |state| state.epoch as usize),
            ),
        ));
    }

    for name in [MODEL, ENCODER, DECODER] {
        let path = run_dir.join(name);
        if !path.exists() {
            continue;
        }
        let largest = 4 * parameters as u64 + (1 << 20);
        let checked = read_at_most(&path, largest)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let values = from_safetensors(&bytes).map_err(|error| error.to_string())?;
                let fits = match name {
                    ENCODER => load_values(model.encoder.clone(), &values).map(|_| ()),
                    DECODER => load_values(model.decoder.clone(), &values).map(|_| ()),
                    _ => load_values(model.clone(), &values).map(|_| ()),
                };
                fits.map_err(|error| error.to_string())?;
                let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
                match values.iter().find(|(_, (_, values))| !finite(values)) {
                    Some((name, _)) => Err(format!("`{name}` holds values that are not finite")),
                    None => Ok(()),
                }
            });
        findings.push(finding(name, 20, checked));
    }
    Ok(findings)
}

/// The newest checkpoint among the findings that is as it should be.
pub fn newest_intact(findings: &[Finding]) -> Option<Position> {
    findings.iter().rev().find_map(|finding| {
        let name = finding.name.strip_prefix("checkpoints/")?;
        Position::from_folder_name(name).filter(|_| finding.problem.is_none())
    })
}

fn csv_rows(run_dir: &Path, expected: usize) -> Result<(), String> {
    let text =
        std::fs::read_to_string(run_dir.join(METRICS_CSV)).map_err(|error| error.to_string())?;
    // Half a row, or one more than the other file has, is what a kill leaves and the next resume cuts off.
    let found = text.matches('\n').count().saturating_sub(1);
    if found >= expected {
        Ok(())
    } else {
        Err(format!("{found} rows, where {expected} were written"))
    }
}

fn finding<E: ToString>(name: &str, exit_code: u8, result: Result<(), E>) -> Finding {
    Finding {
        name: name.to_owned(),
        problem: result.err().map(|error| error.to_string()),
        exit_code,
    }
}
