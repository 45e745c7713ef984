//! `results.json`: all that a sweep has, for programs.

use std::path::Path;

use run_files::settings::Settings;
use run_report::statistics::{Estimate, WelchInterval};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{DataFacts, Outcome, SweepResults};
use crate::sweep::columns::columns;
use crate::sweep::comparisons::Comparison;
use crate::sweep::identity::run_identity;
use crate::sweep::plan::{PlannedGroup, Protocol};
use crate::sweep::run_process::Failure;

/// Version of the form of `results.json`; it grows when a reader of the older form would misread the newer.
const SCHEMA_VERSION: u32 = 1;

impl SweepResults {
    /// `results.json`; a number that is not finite becomes `null`.
    pub fn to_json(&self) -> Value {
        let groups = self.plan.groups.iter().enumerate();
        let comparisons = self.comparisons();
        let file = ResultsFile {
            schema_version: SCHEMA_VERSION,
            command: &self.command,
            protocol: self.options.protocol,
            matched: self.options.matching.quantity(),
            seeds: self.options.seeds,
            data: &self.data,
            groups: groups
                .map(|(position, group)| self.group(position, group))
                .collect(),
            comparisons: comparisons
                .iter()
                .map(|comparison| self.comparison(comparison))
                .collect(),
            runs: (0..self.plan.runs.len())
                .map(|position| self.run(position))
                .collect(),
        };
        serde_json::to_value(file).expect("results have names, numbers and lists only")
    }

    fn group(&self, position: usize, group: &PlannedGroup) -> GroupResult {
        let records = self.records_of(position);
        let columns = columns(self.plan.score());
        GroupResult {
            depth: group.depth,
            shortcuts: group.shortcuts,
            width: group.width,
            parameters: group.parameters,
            multiply_accumulates_per_image: group.multiply_accumulates,
            mismatch: group.mismatch,
            finished_seeds: records.len(),
            statistics: columns
                .map(|column| (column.key, column.estimate(&records)))
                .collect(),
        }
    }

    fn comparison(&self, comparison: &Comparison) -> ComparedGroups {
        let group = |position: usize| {
            let PlannedGroup {
                depth, shortcuts, ..
            } = self.plan.groups[position];
            GroupName { depth, shortcuts }
        };
        ComparedGroups {
            of: self.plan.score().key(),
            later: group(comparison.later),
            minus: group(comparison.earlier),
            difference: comparison.difference,
            interval: comparison.interval,
            verdict: self.in_words(comparison.verdict()),
            simultaneous_interval: comparison.simultaneous_interval,
            simultaneous_verdict: self.in_words(comparison.simultaneous_verdict()),
        }
    }

    fn run(&self, position: usize) -> RunResult<'_> {
        let run = &self.plan.runs[position];
        let folder = |path: &Path| {
            let path = path.strip_prefix(&self.options.out).unwrap_or(path);
            path.to_string_lossy().into_owned()
        };
        RunResult {
            depth: run.settings.depth,
            shortcuts: run.settings.shortcuts,
            seed: run.seed,
            identity: run_identity(&run.settings, &self.data.hash),
            state: match &self.outcomes[position] {
                Outcome::Waiting => RunState::Waiting,
                Outcome::Failed { run_dir, failure } => RunState::Failed {
                    run_dir: folder(run_dir),
                    failure,
                },
                Outcome::Finished(record) => RunState::Finished {
                    run_dir: folder(&record.run_dir),
                    settings: &record.settings,
                    environment: &record.environment,
                    summary: record.summary.to_json(),
                    timing: columns(self.plan.score())
                        .filter(|column| column.reads_clock)
                        .map(|column| (column.key, (column.value)(record)))
                        .collect(),
                },
            },
        }
    }
}

/// The keys of `results.json`, in their order.
#[derive(Serialize)]
struct ResultsFile<'a> {
    schema_version: u32,
    command: &'a str,
    protocol: Protocol,
    matched: Option<&'static str>,
    seeds: u32,
    data: &'a DataFacts,
    groups: Vec<GroupResult>,
    comparisons: Vec<ComparedGroups>,
    runs: Vec<RunResult<'a>>,
}

#[derive(Serialize)]
struct GroupResult {
    depth: u32,
    shortcuts: bool,
    width: f64,
    parameters: u64,
    multiply_accumulates_per_image: u64,
    mismatch: Option<f64>,
    finished_seeds: usize,
    statistics: InOrder<Option<Estimate>>,
}

#[derive(Serialize)]
struct ComparedGroups {
    of: &'static str,
    later: GroupName,
    minus: GroupName,
    difference: Option<f64>,
    interval: Option<WelchInterval>,
    verdict: String,
    simultaneous_interval: Option<WelchInterval>,
    simultaneous_verdict: String,
}

#[derive(Serialize)]
struct GroupName {
    depth: u32,
    shortcuts: bool,
}

#[derive(Serialize)]
struct RunResult<'a> {
    depth: u32,
    shortcuts: bool,
    seed: u64,
    identity: String,
    #[serde(flatten)]
    state: RunState<'a>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum RunState<'a> {
    Waiting,
    Failed {
        run_dir: String,
        failure: &'a Failure,
    },
    Finished {
        run_dir: String,
        settings: &'a Settings,
        environment: &'a Value,
        summary: Value,
        timing: InOrder<Option<f64>>,
    },
}

/// An object whose keys are the columns that a sweep has, in their order.
struct InOrder<T>(Vec<(&'static str, T)>);

impl<T> FromIterator<(&'static str, T)> for InOrder<T> {
    fn from_iter<I: IntoIterator<Item = (&'static str, T)>>(columns: I) -> Self {
        Self(columns.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}
