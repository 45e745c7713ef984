//! Whether everything in a run folder is what the run wrote.

use std::path::Path;

use burn::prelude::*;
use serde::Serialize;

use super::error::ExperimentError;
use crate::experiment::file_list::{FILES, FileList};
use crate::experiment::model::{Model, model_config};
use crate::experiment::prior::{LARGEST_PRIOR, MixturePrior};
use crate::experiment::weights::{
    DECODER_PREFIX, ENCODER_PREFIX, NamedValues, check_values, from_safetensors, of_network,
    take_average,
};
use run_files::checkpoint::{CheckpointFolder, Position};
use run_files::file_operations::read_at_most;
use run_files::metrics::{EpochRow, METRICS_CSV, METRICS_JSONL, read_rows};
use run_files::run_folder::{
    CONFIG, DECODER, ENCODER, MODEL, RECORD_FORMAT, read_config, read_environment, read_settings,
    recorded_origin,
};
use run_files::run_record::RunRecord;

/// No `metrics.csv` that a run writes comes near this size, in bytes.
const LARGEST_CSV: u64 = 1 << 28;

/// One thing looked at, and what is wrong with it.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The file or folder, relative to the run folder.
    pub name: String,
    /// What is wrong; none where it is as it should be.
    pub problem: Option<String>,
    /// The exit code that the problem stands for.
    #[serde(skip)]
    pub exit_code: u8,
}

/// Checks the configuration against the newest checkpoint; every checkpoint's manifest, hashes and tensors; the rows of both metrics
/// files against each other and against the newest checkpoint; and of a finished run every file that it wrote against the hash in its
/// `files.json`, and the exported weights against the checkpoint of the best epoch.
///
/// # Errors
/// Where the folder holds no run, or cannot be read.
pub fn verify_run(run_dir: &Path, device: &Device) -> Result<Vec<Finding>, ExperimentError> {
    let config_json = read_settings(run_dir);
    // Where `config.json` was edited, the checkpoints tell what the model is.
    let settings = match recorded_origin(run_dir)? {
        Some((_, settings, _)) => settings,
        None => read_config(run_dir)?,
    };
    let model = Model::new(&model_config(&settings)?, device);
    let parameters = model.num_params();
    let mut findings = vec![finding(CONFIG, 2, config_json.map(|_| ()))];

    let checkpoints = CheckpointFolder::of_run(run_dir, parameters);
    let (mut newest, mut best) = (None, None);
    let has_average = settings.ema.is_some();
    for (position, loaded) in checkpoints.check_all()? {
        let name = format!("checkpoints/{}", position.folder_name());
        let fits = loaded.and_then(|checkpoint| {
            check_values(&model, "", &checkpoint.model).map_err(|source| {
                run_files::checkpoint::CheckpointError::Weights {
                    path: run_dir.join(&name),
                    source,
                }
            })?;
            best = Some(exported(
                checkpoint.model,
                checkpoint.optimizer,
                has_average,
            ));
            newest = Some(checkpoint.state);
            Ok(())
        });
        findings.push(finding(&name, 20, fits));
    }

    // The best epoch's weights are those of the newest checkpoint where that names none.
    if let Some(position) = newest.as_ref().and_then(|state| state.best) {
        best = checkpoints
            .load(position)
            .ok()
            .map(|checkpoint| exported(checkpoint.model, checkpoint.optimizer, has_average));
    }

    if newest.is_some() || run_dir.join(METRICS_JSONL).exists() {
        let rows = read_rows(&run_dir.join(METRICS_JSONL));
        let written = rows.as_ref().map(Vec::clone).unwrap_or_default();
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
        let epochs = newest.as_ref().map_or(epochs, |state| state.epoch as usize);
        let csv = csv_rows(run_dir, &written[..epochs.min(written.len())], epochs);
        findings.push(finding(METRICS_CSV, 21, csv));
    }

    let list = FileList::read(run_dir);
    // A process may have ended before it wrote the list.
    let is_finished = matches!(&list, Ok(Some(list)) if list.is_complete()) || has_ended(run_dir);
    match &list {
        Ok(Some(list)) => {
            let known: Vec<String> = findings
                .iter()
                .map(|finding| finding.name.clone())
                .collect();
            for (name, checked) in list.check(run_dir) {
                let exit_code = if name.ends_with(".safetensors") {
                    20
                } else {
                    21
                };
                let checked = finding(name, exit_code, checked);
                // Of two problems of one file the first, which says more, is told.
                match known.iter().position(|known| known == name) {
                    Some(position) if findings[position].problem.is_none() => {
                        findings[position] = checked;
                    }
                    Some(_) => {}
                    None => findings.push(checked),
                }
            }
        }
        Ok(None) if is_finished => {
            let missing = "missing, and the run is finished: resume it, which writes it anew";
            findings.push(finding(FILES, 21, Err(missing)));
        }
        Ok(None) => {}
        Err(error) => findings.push(finding(FILES, 21, Err(error))),
    }

    for name in [MODEL, ENCODER, DECODER] {
        let path = run_dir.join(name);
        let is_told = findings
            .iter()
            .any(|finding| finding.name == name && finding.problem.is_some());
        if !path.exists() || is_told {
            continue;
        }
        let largest = 4 * parameters as u64 + (1 << 20);
        let checked = read_at_most(&path, largest)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let values = from_safetensors(&bytes).map_err(|error| error.to_string())?;
                let fits = check_values(&model, prefix(name), &values);
                fits.map_err(|error| error.to_string())?;
                if is_finished && let Some(best) = &best {
                    let expected = of_network(best, prefix(name));
                    if let Some((name, _)) = expected
                        .iter()
                        .find(|(name, value)| values.get(*name) != Some(value))
                    {
                        return Err(format!("`{name}` is not that of the best checkpoint"));
                    }
                }
                let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
                match values.iter().find(|(_, (_, values))| !finite(values)) {
                    Some((name, _)) => Err(format!("`{name}` holds values that are not finite")),
                    None => Ok(()),
                }
            });
        findings.retain(|finding| finding.name != name);
        findings.push(finding(name, 20, checked));
    }
    findings.extend(priors(run_dir, settings.latent_dim));
    Ok(findings)
}

/// What a run exports of a checkpoint: its weights, or their average over the steps where it keeps one.
fn exported(model: NamedValues, mut optimizer: NamedValues, has_average: bool) -> NamedValues {
    if has_average {
        take_average(&mut optimizer)
    } else {
        model
    }
}

/// The mixtures that were fitted after training: whether they are some. One that was fitted to earlier weights of the run is fitted again when it is
/// asked for.
fn priors(run_dir: &Path, latent_dim: usize) -> Vec<Finding> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| MixturePrior::is_file_name(name))
        .collect();
    names.sort();
    let checked = names.into_iter().map(|name| {
        let path = run_dir.join(&name);
        let checked = read_at_most(&path, LARGEST_PRIOR)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                MixturePrior::from_json(&path, &bytes, latent_dim)
                    .map_err(|error| error.to_string())
            })
            .map(|_| ());
        finding(&name, 21, checked)
    });
    checked.collect()
}

/// What stands before the names of an exported file's tensors in the model's.
fn prefix(file: &str) -> &'static str {
    match file {
        ENCODER => ENCODER_PREFIX,
        DECODER => DECODER_PREFIX,
        _ => "",
    }
}

/// Whether the run is finished, and by a program that lists the files of finished runs.
fn has_ended(run_dir: &Path) -> bool {
    let environment = read_environment(run_dir).ok();
    let format = environment.and_then(|environment| environment["format"].as_u64());
    format.is_some_and(|format| format >= RECORD_FORMAT) && RunRecord::read(run_dir).is_ok()
}

/// The newest checkpoint among the findings that is as it should be.
pub fn newest_intact(findings: &[Finding]) -> Option<Position> {
    findings.iter().rev().find_map(|finding| {
        let name = finding.name.strip_prefix("checkpoints/")?;
        Position::from_folder_name(name).filter(|_| finding.problem.is_none())
    })
}

/// Compares `metrics.csv` with the rows of the other file, of which it must have at least so many.
fn csv_rows(run_dir: &Path, rows: &[EpochRow], expected: usize) -> Result<(), String> {
    let text = read_at_most(&run_dir.join(METRICS_CSV), LARGEST_CSV)
        .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other))
        .map_err(|error| error.to_string())?;
    // Half a row, or one more than the other file has, is what a kill leaves and the next resume cuts off.
    let found = text.matches('\n').count().saturating_sub(1);
    if found < expected {
        return Err(format!("{found} rows, where {expected} were written"));
    }
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    for (row, line) in rows.iter().zip(lines) {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != columns.len() {
            return Err(format!(
                "the row of epoch {} has {} cells",
                row.epoch,
                cells.len()
            ));
        }
        for (column, cell) in columns.iter().zip(cells) {
            if !row.agrees(column, cell) {
                return Err(format!(
                    "{column} of epoch {} is {cell}, and another number in {METRICS_JSONL}",
                    row.epoch
                ));
            }
        }
    }
    Ok(())
}

fn finding<E: ToString>(name: &str, exit_code: u8, result: Result<(), E>) -> Finding {
    Finding {
        name: name.to_owned(),
        problem: result.err().map(|error| error.to_string()),
        exit_code,
    }
}
