//! The post's numbers beside ours.

use crate::sweep::columns::estimate_text;
use crate::sweep::plan::Protocol;
use crate::sweep::published::{PUBLISHED_TEST_FLOOR, PublishedRun, published};
use crate::sweep::results::SweepResults;
use run_files::run_record::{RunRecord, RunTiming};
use run_report::report::ReportTable;
use run_report::statistics::Estimate;

/// The post's rows beside ours, under its own protocol only.
pub(in crate::sweep) fn published_table(results: &SweepResults) -> Option<ReportTable> {
    // The post's are cross-entropies of grey levels.
    if results.options.protocol != Protocol::Blog || results.plan.likelihood().is_over_levels() {
        return None;
    }
    let columns = [
        "depth",
        "whose",
        "seeds",
        "hours",
        "s an epoch",
        "epochs",
        "best training loss",
        "best validation loss",
        "last epoch: KL",
        "last epoch: cross-entropy",
        "last epoch: excess",
    ];
    let mut rows = Vec::new();
    for (position, group) in results.plan.groups.iter().enumerate() {
        if !group.shortcuts {
            continue;
        }
        if let Some(run) = published(group.depth) {
            rows.push(published_row(run));
        }
        rows.push(our_row(group.depth, &results.records_of(position)));
    }
    Some(ReportTable {
        columns: columns.map(str::to_owned).into(),
        rows,
        notes: vec![
            "The post's losses are the lowest of any epoch, its KL and cross-entropy those of the last epoch on the test set; \
             ours here are taken the same way, and so differ from the table above. The validation set is the test set."
                .to_owned(),
            format!(
                "The post trained on a GTX 1070, one run a depth, at width 1 with 256 latent dimensions on the 50,000 training images. \
                 Its excess is over the floor of the whole test set, {PUBLISHED_TEST_FLOOR}."
            ),
        ],
    })
}

fn published_row(run: &PublishedRun) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        run.depth.to_string(),
        "the post".to_owned(),
        "1".to_owned(),
        format!("{:.1}", run.hours),
        or_dash(run.seconds_per_epoch.map(|seconds| format!("{seconds:.0}"))),
        or_dash(run.epochs.map(|epochs| epochs.to_string())),
        format!("{:.1}", run.best_training_loss),
        format!("{:.1}", run.best_validation_loss),
        format!("{:.2}", run.last_kl),
        format!("{:.2}", run.last_cross_entropy),
        format!("{:.2}", run.last_cross_entropy - PUBLISHED_TEST_FLOOR),
    ]
}

fn our_row(depth: u32, records: &[&RunRecord]) -> Vec<String> {
    let text = |digits, values: Vec<f64>| estimate_text(Estimate::of(&values), digits);
    let cell = |digits: usize, value: &dyn Fn(&RunRecord) -> f64| {
        text(digits, records.iter().map(|run| value(run)).collect())
    };
    let timed = |digits: usize, value: &dyn Fn(RunTiming) -> f64| {
        let timings = records.iter().filter_map(|run| run.timing);
        text(digits, timings.map(value).collect())
    };
    let lowest = |loss: &dyn Fn(&run_files::metrics::EpochRow) -> f64, run: &RunRecord| {
        run.rows.iter().map(loss).fold(f64::INFINITY, f64::min)
    };
    vec![
        depth.to_string(),
        "here".to_owned(),
        records.len().to_string(),
        timed(2, &|timing| timing.train_seconds / 3600.0),
        timed(1, &|timing| timing.seconds_per_epoch),
        cell(1, &|run| f64::from(run.summary.last.epoch)),
        cell(1, &|run| lowest(&|row| row.train.loss, run)),
        cell(1, &|run| lowest(&|row| row.valid.loss, run)),
        cell(2, &|run| run.summary.last.valid.kl),
        cell(2, &|run| run.summary.last.valid.cross_entropy),
        cell(2, &|run| run.summary.last.valid.excess),
    ]
}
