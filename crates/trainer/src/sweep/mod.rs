//! A sweep: the same experiment at several depths and seeds, and what can be concluded from it.
//!
//! Its state is the run folders and nothing else, so it can be stopped at any point: a run is found again by what it is
//! (see [`run_identity`]), taken as it is where it is finished, and continued where it is not.

mod columns;
mod comparisons;
mod error;
mod files;
mod identity;
mod matching;
mod plan;
mod published;
mod results;
mod run_process;
mod run_search;
mod sweep_progress;
mod tables;

pub use columns::{COLUMNS, Column, Meaning, columns};
pub use comparisons::{Comparison, compare};
pub use error::SweepError;
pub use files::{REPORT_HTML, RESULTS_JSON, TABLE_CSV, TABLE_MD};
pub use identity::run_identity;
pub use matching::{Matching, matched_width, mismatch};
pub use plan::{Plan, PlannedGroup, PlannedRun, Protocol, SweepOptions, SweepPreset};
pub use published::{PUBLISHED, PUBLISHED_TEST_FLOOR, PublishedRun, published};
pub use results::{DataFacts, Outcome, SweepResults};
pub use run_process::{Failure, StopCheck};
pub use run_report::statistics::{Estimate, WelchInterval};
pub use run_report::student::{student_distribution, student_quantile};
pub use run_search::{FoundRun, find_runs};
pub use sweep_progress::SweepProgress;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::experiment::data;
use files::write_files;
use run_files::file_operations::{open_no_link, try_lock};
use run_files::run_folder::{RunFolder, RunFolderError, file_error};
use run_files::run_record::RunRecord;
use run_process::{RunEnd, run_process};
use run_search::free_folder;
use sweep_progress::Turn;

/// Below the sweep's folder: the folders of its runs.
const RUNS: &str = "runs";
/// Below the sweep's folder: the settings that its runs are started with.
const SETTINGS: &str = "settings";
const LOCK: &str = "lock";
/// Between two looks at a run folder that another process works in.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs a sweep, or goes on with it, and writes its tables after every run.
///
/// `command` is what the tables say makes the sweep. As soon as `stop` gives an exit code, the run in progress is asked
/// to end and the sweep with it; nothing is lost but what that run did since its last checkpoint.
///
/// # Errors
/// Options that make no sweep, a folder in use or not writable, data that is missing; and at the end
/// [`SweepError::FailedRuns`] where runs failed, after all the others were made.
pub fn sweep(
    options: &SweepOptions,
    command: &str,
    progress: &SweepProgress,
    stop: &StopCheck<'_>,
) -> Result<(), SweepError> {
    let plan = Plan::new(options)?;
    let _lock = lock(&options.out)?;
    let results = SweepResults {
        data: data_facts(&plan)?,
        outcomes: vec![Outcome::Waiting; plan.runs.len()],
        plan,
        options: options.clone(),
        command: command.to_owned(),
    };
    let mut sweep = Sweep {
        results,
        progress,
        stop,
    };
    sweep.take_finished();
    progress.started(
        &options.out.display().to_string(),
        sweep.results.plan.runs.len(),
        sweep.results.finished(),
    );
    write_files(&sweep.results)?;
    for position in 0..sweep.results.plan.runs.len() {
        if matches!(sweep.results.outcomes[position], Outcome::Waiting) {
            sweep.results.outcomes[position] = sweep.run(position)?;
            write_files(&sweep.results)?;
        }
    }
    sweep.end()
}

/// A sweep folder this process has to itself until the value is dropped.
fn lock(out: &Path) -> Result<File, SweepError> {
    for folder in [out.join(RUNS), out.join(SETTINGS)] {
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
    }
    let path = out.join(LOCK);
    if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(RunFolderError::LinkInside { path }.into());
    }
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = open_no_link(options, &path).map_err(file_error(&path))?;
    match try_lock(&file) {
        // Where there are no locks, each run's own folder says so.
        Ok(_) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SweepError::Locked {
            path: out.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(file_error(&path)(source).into()),
    }
}

/// The data is read here once for its hash and its floors; each run reads it again.
fn data_facts(plan: &Plan) -> Result<DataFacts, SweepError> {
    let settings = &plan.runs[0].settings;
    let data = data::load(settings)?;
    Ok(DataFacts::of(&data, &data::split(settings, &data)?))
}

struct Sweep<'a> {
    results: SweepResults,
    progress: &'a SweepProgress,
    stop: &'a StopCheck<'a>,
}

impl Sweep<'_> {
    /// Takes every finished run that is there, so that the tables never have fewer rows than before.
    fn take_finished(&mut self) {
        let mut found = find_runs(&self.runs_folder());
        for (run, outcome) in self
            .results
            .plan
            .runs
            .iter()
            .zip(&mut self.results.outcomes)
        {
            let identity = run_identity(&run.settings, &self.results.data.hash);
            if let Some(FoundRun::Finished(record)) = found.remove(&identity) {
                *outcome = Outcome::Finished(record);
            }
        }
    }

    /// Makes one run, or what is missing of it.
    fn run(&self, position: usize) -> Result<Outcome, SweepError> {
        let run = &self.results.plan.runs[position];
        let turn = Turn {
            number: position + 1,
            of: self.results.plan.runs.len(),
            label: self.results.plan.groups[run.group].label(),
            seed: run.seed,
        };
        let run_dir = match self.find(position, &turn)? {
            Found::Finished(record) => return Ok(self.finished(&turn, record)),
            Found::In(run_dir) => run_dir,
        };
        let shown = run_dir.display().to_string();
        self.progress
            .run_started(&turn, &shown, self.seconds_left());
        let config = self
            .results
            .options
            .out
            .join(SETTINGS)
            .join(format!("{}.json", run.folder_name()));
        run.settings.write(&config)?;
        let end = run_process(&config, &run_dir, self.stop, &mut |event| {
            self.progress.run_event(&turn, event);
        })?;
        let failure = match end {
            RunEnd::Interrupted(exit_code) => {
                return Err(SweepError::Interrupted { exit_code });
            }
            RunEnd::Failed(failure) => failure,
            RunEnd::Well => match RunRecord::read(&run_dir) {
                Ok(record) => return Ok(self.finished(&turn, Box::new(record))),
                Err(error) => Failure {
                    exit_code: Some(0),
                    status: "exit status: 0".to_owned(),
                    message: error.to_string(),
                },
            },
        };
        self.progress
            .run_failed(&turn, &failure.message, &failure.status);
        Ok(Outcome::Failed { run_dir, failure })
    }

    /// The folder to train in, free of other processes; or the run itself, if another process has finished it meanwhile.
    fn find(&self, position: usize, turn: &Turn) -> Result<Found, SweepError> {
        let run = &self.results.plan.runs[position];
        let identity = run_identity(&run.settings, &self.results.data.hash);
        let mut has_waited = false;
        loop {
            if let Some(exit_code) = (self.stop)() {
                return Err(SweepError::Interrupted { exit_code });
            }
            let runs = self.runs_folder();
            let run_dir = match find_runs(&runs).remove(&identity) {
                Some(FoundRun::Finished(record)) => return Ok(Found::Finished(record)),
                Some(FoundRun::Begun { path, .. }) => path,
                None => free_folder(&runs, &run.folder_name()),
            };
            match RunFolder::resume(&run_dir) {
                Ok(_) => return Ok(Found::In(run_dir)),
                // The run of a sweep that was killed, about to end; or someone's own training there.
                Err(RunFolderError::Locked { .. }) => {
                    if !has_waited {
                        self.progress.waiting(turn, &run_dir.display().to_string());
                        has_waited = true;
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                // Its own process will meet the same, and tell.
                Err(_) => return Ok(Found::In(run_dir)),
            }
        }
    }

    fn finished(&self, turn: &Turn, record: Box<RunRecord>) -> Outcome {
        self.progress.run_finished(turn, &record.summary);
        Outcome::Finished(record)
    }

    /// Seconds of training that the waiting runs take, by their arithmetic and the pace of the finished ones.
    fn seconds_left(&self) -> Option<f64> {
        let (mut seconds, mut done, mut left) = (0.0, 0.0, 0.0);
        for (run, outcome) in self.results.plan.runs.iter().zip(&self.results.outcomes) {
            let group = &self.results.plan.groups[run.group];
            let epochs = |epochs: u32| group.multiply_accumulates as f64 * f64::from(epochs);
            match outcome {
                Outcome::Waiting => left += epochs(run.settings.epochs),
                Outcome::Failed { .. } => {}
                Outcome::Finished(record) => {
                    if let Some(timing) = record.timing {
                        seconds += timing.train_seconds;
                        done += epochs(record.summary.last.epoch);
                    }
                }
            }
        }
        (done > 0.0).then(|| seconds * left / done)
    }

    fn runs_folder(&self) -> PathBuf {
        self.results.options.out.join(RUNS)
    }

    /// Says what came out, and fails where runs did.
    fn end(&self) -> Result<(), SweepError> {
        let out = &self.results.options.out;
        let path = |name: &str| out.join(name);
        let files = [REPORT_HTML, TABLE_MD, TABLE_CSV, RESULTS_JSON];
        let files = files.map(|name| path(name).display().to_string());
        self.progress.ended(&files, &tables::lines(&self.results));
        match self.results.failures().count() {
            0 => Ok(()),
            failed => Err(SweepError::FailedRuns {
                failed,
                total: self.results.plan.runs.len(),
                table: path(TABLE_MD),
            }),
        }
    }
}

/// Where a run stands before its turn.
enum Found {
    Finished(Box<RunRecord>),
    In(PathBuf),
}
