//! `files.json`: size and hash of every file of a finished run, so that a change of any of them is seen. A run that is under way has one
//! without files: a process may end between the run's summary and its list, which must not look like a list that someone deleted.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ExperimentError;
use run_files::checkpoint::ManifestEntry;
use run_files::divergence::DIVERGENCE;
use run_files::file_operations::read_at_most;
use run_files::metrics::{METRICS_CSV, METRICS_JSONL, TIMING_JSONL};
use run_files::run_folder::{
    CONFIG, DECODER, ENCODER, ENVIRONMENT, MODEL, REFERENCE, RunFolder, SUMMARY, file_error,
};
use run_report::loss_curves::LOSS_CURVES;

/// The list, in the run folder.
pub(crate) const FILES: &str = "files.json";
/// The folders whose pictures are listed.
pub(crate) const PICTURES: [&str; 2] = ["samples", "reconstructions"];
/// Files that are listed where they are there.
const LISTED: [&str; 12] = [
    CONFIG,
    ENVIRONMENT,
    METRICS_JSONL,
    METRICS_CSV,
    TIMING_JSONL,
    LOSS_CURVES,
    SUMMARY,
    MODEL,
    ENCODER,
    DECODER,
    REFERENCE,
    DIVERGENCE,
];
const FORMAT: u32 = 1;
/// A list has a line for each picture of each epoch.
const LARGEST: u64 = 1 << 28;

/// The files of a finished run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileList {
    format: u32,
    files: Vec<ManifestEntry>,
}

/// Lists what the run has written, its checkpoints apart, which have manifests of their own.
///
/// # Errors
/// Where a file cannot be read, or the list not be written.
pub(crate) fn write_file_list(folder: &RunFolder) -> Result<(), ExperimentError> {
    let mut names: Vec<String> = LISTED.map(str::to_owned).into();
    for pictures in PICTURES {
        let path = folder.join(pictures);
        let entries = fs::read_dir(&path).map_err(file_error(&path))?;
        let mut found: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_a_runs_picture(name))
            .map(|name| format!("{pictures}/{name}"))
            .collect();
        found.sort();
        names.extend(found);
    }
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(&name);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            let content = read_at_most(&path, u64::MAX).map_err(file_error(&path))?;
            files.push(ManifestEntry::of(&name, &content));
        }
    }
    write(folder, files)
}

/// Whether a run writes a file of that name into its folder.
pub(crate) fn is_a_runs_file(name: &str) -> bool {
    name == FILES || LISTED.contains(&name)
}

/// By the names that runs give; a user may have put others beside them.
pub(crate) fn is_a_runs_picture(name: &str) -> bool {
    let is_epoch = name
        .strip_prefix("epoch-")
        .and_then(|rest| rest.strip_suffix(".png"))
        .is_some_and(|number| number.parse::<u32>().is_ok());
    is_epoch || matches!(name, "final-10x10.png" | "final.png")
}

/// Makes the list one without files, before a run begins or goes on and changes what it describes.
///
/// # Errors
/// Where the list cannot be written.
pub(crate) fn open_file_list(folder: &RunFolder) -> Result<(), ExperimentError> {
    write(folder, Vec::new())
}

fn write(folder: &RunFolder, files: Vec<ManifestEntry>) -> Result<(), ExperimentError> {
    let list = FileList {
        format: FORMAT,
        files,
    };
    let json = serde_json::to_vec_pretty(&list).expect("names and numbers serialise");
    Ok(folder.write(FILES, &json)?)
}

impl FileList {
    /// The list of the run in a folder; none where it has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(run_dir: &Path) -> Result<Option<Self>, String> {
        let path = run_dir.join(FILES);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_at_most(&path, LARGEST).map_err(|error| error.to_string())?;
        let list: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if list.format != FORMAT {
            return Err(format!("format {}, not {FORMAT}", list.format));
        }
        // What leads out of the folder is none of its files.
        let is_inside = |name: &str| {
            let name = Path::new(name);
            name.components()
                .all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match list.files.iter().find(|entry| !is_inside(&entry.name)) {
            Some(entry) => Err(format!("`{}` is no file of the folder", entry.name)),
            None => Ok(Some(list)),
        }
    }

    /// Whether the run has written all that it writes.
    pub(crate) fn is_complete(&self) -> bool {
        !self.files.is_empty()
    }

    /// Every file with what is wrong with it, if anything.
    pub(crate) fn check(&self, run_dir: &Path) -> Vec<(&str, Result<(), String>)> {
        let entries = self.files.iter();
        entries
            .map(|entry| {
                let found = check_entry(entry, run_dir.join(&entry.name));
                (entry.name.as_str(), found)
            })
            .collect()
    }

    /// What of a file's content is not as the list says: (expected, found). None too where it is not listed.
    pub(crate) fn difference(&self, name: &str, content: &[u8]) -> Option<(String, String)> {
        let entry = self.files.iter().find(|entry| entry.name == name)?;
        entry.difference(content)
    }
}

fn check_entry(entry: &ManifestEntry, path: PathBuf) -> Result<(), String> {
    let content = read_at_most(&path, entry.bytes).map_err(|error| error.to_string())?;
    match entry.difference(&content) {
        None => Ok(()),
        Some((expected, found)) => Err(format!("expected {expected}, found {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runs_own_pictures_are_listed() {
        for name in [
            "epoch-0001.png",
            "final-10x10.png",
            "final.png",
            "epoch-12345.png",
        ] {
            assert!(is_a_runs_picture(name), "{name}");
        }
        for name in [
            "epoch-x.png",
            "epoch-0001.png.77.tmp",
            "mine.png",
            "epoch-.png",
        ] {
            assert!(!is_a_runs_picture(name), "{name}");
        }
    }

    #[test]
    fn a_list_that_names_files_elsewhere_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["../secret", "/etc/passwd", "a/../../b"] {
            let list = FileList {
                format: FORMAT,
                files: vec![ManifestEntry::of(name, b"")],
            };
            let json = serde_json::to_vec(&list).expect("JSON");
            fs::write(folder.path().join(FILES), json).expect("written");
            let error = FileList::read(folder.path()).expect_err("refused");
            assert!(error.contains(name), "{error}");
        }
    }
}
