//! Finding the runs that are there already, by what they are and not by what their folder is called.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::identity::run_identity;
use run_files::metrics::{METRICS_JSONL, read_rows};
use run_files::run_folder::{CONFIG, changed_settings, read_environment, read_settings};
use run_files::run_record::RunRecord;

/// Folders within folders that are looked into.
const DEEPEST: usize = 4;

/// A run that was begun.
#[derive(Clone, Debug)]
pub enum FoundRun {
    /// With its results.
    Finished(Box<RunRecord>),
    /// To be continued in this folder, with this many epochs done.
    Begun {
        /// The run folder.
        path: PathBuf,
        /// Epochs in its `metrics.jsonl`.
        epochs: usize,
    },
}

impl FoundRun {
    /// What is worth more: a finished run, else the one that got further.
    fn rank(&self) -> usize {
        match self {
            Self::Finished(_) => usize::MAX,
            Self::Begun { epochs, .. } => *epochs,
        }
    }
}

/// The runs below a folder by their [identity](run_identity). Where two have the same, the better one: the finished one,
/// or the one with more epochs, or the first by name.
///
/// What cannot be read is no run, nor is one whose settings were changed on its way, or whose `config.json` is not that of its
/// checkpoint; nothing is reported of it, since the run is then made anew beside it.
pub fn find_runs(folder: &Path) -> HashMap<String, FoundRun> {
    let mut found = HashMap::new();
    search(folder, DEEPEST, &mut found);
    found
}

fn search(folder: &Path, levels: usize, found: &mut HashMap<String, FoundRun>) {
    if folder.join(CONFIG).is_file() {
        if let Some((identity, run)) = read_run(folder) {
            let is_better = found
                .get(&identity)
                .is_none_or(|other| run.rank() > other.rank());
            if is_better {
                found.insert(identity, run);
            }
        }
        return;
    }
    let Some(levels) = levels.checked_sub(1) else {
        return;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for folder in folders {
        search(&folder, levels, found);
    }
}

fn read_run(folder: &Path) -> Option<(String, FoundRun)> {
    let settings = read_settings(folder).ok()?;
    let environment = read_environment(folder).ok()?;
    // A run whose settings were changed on its way is not the one that its last settings describe.
    if !changed_settings(&environment).is_empty() {
        return None;
    }
    let identity = run_identity(&settings, environment["data_hash"].as_str()?);
    let epochs = read_rows(&folder.join(METRICS_JSONL)).map_or(0, |rows| rows.len());
    let run = match RunRecord::read(folder) {
        // A run that once went further than its settings now say is not the run they describe.
        Ok(record) if record.summary.last.epoch <= settings.epochs => {
            FoundRun::Finished(Box::new(record))
        }
        _ => FoundRun::Begun {
            path: folder.to_owned(),
            epochs,
        },
    };
    Some((identity, run))
}

/// A folder for a new run: that name, or the first of `NAME-2`, `NAME-3`, ... in which no run was begun.
pub(super) fn free_folder(parent: &Path, name: &str) -> PathBuf {
    let numbered = (2u32..).map(|number| parent.join(format!("{name}-{number}")));
    std::iter::once(parent.join(name))
        .chain(numbered)
        .find(|path| !path.join(CONFIG).exists())
        .expect("there are more numbers than folders")
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_files::run_folder::RunFolder;
    use run_files::run_record::example::{summary, write_run};
    use run_files::settings::Settings;

    const DATA: &str = "0123456789abcdef";

    fn settings(seed: u64) -> Settings {
        Settings {
            seed,
            epochs: 2,
            ..Settings::default()
        }
    }

    fn begin(path: &Path, settings: &Settings) {
        let folder = RunFolder::create(path).expect("new");
        folder
            .record(settings, DATA, "sample", &[])
            .expect("recorded");
    }

    #[test]
    fn runs_are_found_whatever_their_folder_is_called() {
        let parent = tempfile::tempdir().expect("a folder");
        write_run(&parent.path().join("any/where"), &settings(1), &summary());
        begin(&parent.path().join("x"), &settings(2));
        let found = find_runs(parent.path());
        assert_eq!(found.len(), 2);
        assert!(matches!(
            &found[&run_identity(&settings(1), DATA)],
            FoundRun::Finished(record) if record.run_dir.ends_with("any/where")
        ));
        assert!(matches!(
            &found[&run_identity(&settings(2), DATA)],
            FoundRun::Begun { path, epochs: 0 } if path.ends_with("x")
        ));
        assert!(!found.contains_key(&run_identity(&settings(1), "other data")));
    }

    #[test]
    fn of_two_equal_runs_the_finished_one_is_taken() {
        for (finished, begun) in [("a", "b"), ("b", "a")] {
            let parent = tempfile::tempdir().expect("a folder");
            write_run(&parent.path().join(finished), &settings(1), &summary());
            begin(&parent.path().join(begun), &settings(1));
            let found = find_runs(parent.path());
            assert!(matches!(
                &found[&run_identity(&settings(1), DATA)],
                FoundRun::Finished(record) if record.run_dir.ends_with(finished)
            ));
        }
    }

    #[test]
    fn a_run_whose_settings_were_changed_on_its_way_is_no_run_of_a_sweep() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("a");
        write_run(&path, &settings(1), &summary());
        let other = Settings {
            learning_rate: 0.5,
            ..settings(1)
        };
        let folder = RunFolder::resume(&path).expect("taken");
        let changed = run_files::settings::differences(&settings(1), &other);
        folder
            .record(&other, DATA, "sample", &changed)
            .expect("recorded");
        assert!(find_runs(parent.path()).is_empty());
    }

    #[test]
    fn a_run_of_more_epochs_is_another_run() {
        let parent = tempfile::tempdir().expect("a folder");
        write_run(&parent.path().join("a"), &settings(1), &summary());
        let longer = Settings {
            epochs: 3,
            ..settings(1)
        };
        assert!(!find_runs(parent.path()).contains_key(&run_identity(&longer, DATA)));
    }

    #[test]
    fn damaged_folders_are_passed_over_and_their_names_stay_taken() {
        let parent = tempfile::tempdir().expect("a folder");
        begin(&parent.path().join("run"), &settings(1));
        fs::write(parent.path().join("run").join(CONFIG), b"{").expect("written");
        assert!(find_runs(parent.path()).is_empty());
        assert!(find_runs(&parent.path().join("missing")).is_empty());
        assert!(free_folder(parent.path(), "run").ends_with("run-2"));
        assert!(free_folder(parent.path(), "other").ends_with("other"));
    }
}
