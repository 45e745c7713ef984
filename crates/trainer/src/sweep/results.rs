//! What a sweep has so far.

use std::path::{Path, PathBuf};

use cifar_loader::{ImageSet, Splits};
use serde::Serialize;

use super::comparisons::{Comparison, compare};
use super::plan::{Plan, SweepOptions};
use super::run_process::Failure;
use crate::experiment::evaluate::floor;
use run_files::run_record::{PerSplit, RunRecord};
use run_report::statistics::Estimate;

mod file;

/// The data that every run of a sweep sees.
#[derive(Clone, Debug, Serialize)]
pub struct DataFacts {
    /// What it is called.
    pub name: String,
    /// SHA-256 over its files.
    pub hash: String,
    /// Images of each split.
    pub images: PerSplit<usize>,
    /// The pixels' own entropy over each split, in nats an image, in float64.
    pub floor: PerSplit<f64>,
}

impl DataFacts {
    /// Of a data set and the splits that one seed makes of it: the training and validation images of another seed
    /// differ, those of the test set do not.
    pub fn of(data: &dyn ImageSet, splits: &Splits) -> Self {
        let Splits { train, valid, test } = splits;
        Self {
            name: data.name().to_owned(),
            hash: data.fingerprint().to_string(),
            images: PerSplit {
                train: train.len(),
                valid: valid.len(),
                test: test.len(),
            },
            floor: PerSplit {
                train: floor(train),
                valid: floor(valid),
                test: floor(test),
            },
        }
    }
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Its turn has not come, or it is being trained.
    Waiting,
    /// It has results.
    Finished(Box<RunRecord>),
    /// Its process ended without.
    Failed {
        /// The run folder.
        run_dir: PathBuf,
        /// How it ended.
        failure: Failure,
    },
}

/// What a sweep has so far.
pub struct SweepResults {
    /// What was asked for.
    pub options: SweepOptions,
    /// Its runs.
    pub plan: Plan,
    /// Its data.
    pub data: DataFacts,
    /// One for each run of the plan, in its order.
    pub outcomes: Vec<Outcome>,
    /// The command that makes or continues this sweep.
    pub command: String,
}

impl SweepResults {
    /// The finished runs of a group, seed by seed.
    pub fn records_of(&self, group: usize) -> Vec<&RunRecord> {
        let runs = self.plan.runs_of(group);
        runs.filter_map(|(position, _)| match &self.outcomes[position] {
            Outcome::Finished(record) => Some(&**record),
            _ => None,
        })
        .collect()
    }

    /// Runs that are finished.
    pub fn finished(&self) -> usize {
        let outcomes = self.outcomes.iter();
        outcomes
            .filter(|outcome| matches!(outcome, Outcome::Finished(_)))
            .count()
    }

    /// Runs that failed, with their number in the plan.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Path, &Failure)> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes.filter_map(|(position, outcome)| match outcome {
            Outcome::Failed { run_dir, failure } => Some((position, &**run_dir, failure)),
            _ => None,
        })
    }

    /// The comparisons of the groups on the test set: by what the plan says.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let score = self.plan.score();
        let scores: Vec<Option<Estimate>> = (0..self.plan.groups.len())
            .map(|group| {
                let values: Vec<f64> = self
                    .records_of(group)
                    .into_iter()
                    .filter_map(|run| score.value(run))
                    .collect();
                Estimate::of(&values)
            })
            .collect();
        compare(&self.plan.groups, &scores)
    }

    /// A verdict about an excess, in the words of what is compared.
    pub(super) fn in_words(&self, verdict: &str) -> String {
        verdict.replace("excess", self.plan.score().name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use run_files::run_record::example::{summary, write_run};

    /// Results of made-up runs of depths 28 and 40: two seeds, the last run failed.
    pub(in crate::sweep) fn results(options: SweepOptions) -> SweepResults {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = Plan::new(&options).expect("a plan");
        let mut outcomes: Vec<Outcome> = Vec::new();
        for run in &plan.runs {
            let path = folder.path().join(run.folder_name());
            let mut summary = summary();
            // Deeper is worse by 10, the second seed by 2.
            let worse = if run.settings.depth == 28 { 0.0 } else { 10.0 };
            summary.test.excess = 80.0 + worse + 2.0 * (run.seed - 1) as f64;
            summary.test.cross_entropy = summary.floor.test + summary.test.excess;
            write_run(&path, &run.settings, &summary);
            let record = RunRecord::read(&path).expect("a finished run");
            outcomes.push(Outcome::Finished(Box::new(record)));
        }
        if let Some(last) = outcomes.last_mut() {
            *last = Outcome::Failed {
                run_dir: options.out.join("runs/depth40-residual-seed-2"),
                failure: Failure {
                    exit_code: Some(30),
                    status: "exit status: 30".to_owned(),
                    message: "step 7 of epoch 2 gave a KL divergence of NaN".to_owned(),
                },
            };
        }
        SweepResults {
            options,
            plan,
            data: DataFacts {
                name: "a sample".to_owned(),
                hash: "0123456789abcdef".to_owned(),
                images: PerSplit {
                    train: 150,
                    valid: 20,
                    test: 20,
                },
                floor: PerSplit {
                    train: 1678.9,
                    valid: 1680.1,
                    test: 1681.7,
                },
            },
            outcomes,
            command: "cargo xtask bench-depths --depths 28,40".to_owned(),
        }
    }

    pub(in crate::sweep) fn options() -> SweepOptions {
        SweepOptions {
            depths: vec![28, 40],
            seeds: 2,
            out: "runs/x".into(),
            ..SweepOptions::default()
        }
    }

    #[test]
    fn results_json_has_every_run_and_the_statistics_of_the_finished_ones() {
        let results = results(options());
        let value = results.to_json();
        assert_eq!(value["schema_version"], 1);
        assert_eq!(
            (value["protocol"].as_str(), &value["matched"]),
            (Some("held-out"), &Value::Null)
        );
        let [first, _, _, failed] = &value["runs"].as_array().expect("runs")[..] else {
            panic!("{value:#}");
        };
        assert_eq!(first["state"], "finished");
        assert_eq!(first["settings"]["seed"], 1);
        assert_eq!(first["summary"]["test"]["excess"], 80.0);
        assert!(first["timing"]["train_seconds"].is_number());
        assert_eq!(failed["state"], "failed");
        assert_eq!(failed["failure"]["exit_code"], 30);
        assert_eq!(failed["run_dir"], "runs/depth40-residual-seed-2");

        let of = |group: usize| &value["groups"][group]["statistics"]["test_excess"];
        // 80 and 82: mean 81, deviation the root of (1 + 1) / 1.
        assert_eq!(of(0)["mean"], 81.0);
        assert_eq!(of(0)["standard_deviation"], 2f64.sqrt());
        assert_eq!(
            (of(1)["count"].as_u64(), of(1)["mean"].as_f64()),
            (Some(1), Some(90.0))
        );
        assert_eq!(value["comparisons"][0]["difference"], 9.0);
        assert_eq!(value["comparisons"][0]["verdict"], "one seed: no interval");
        assert_eq!((results.finished(), results.failures().count()), (3, 1));
    }
}
