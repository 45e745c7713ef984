//! The main table: one row for each depth and form.

use super::notes::main_notes;
use crate::sweep::columns::columns;
use crate::sweep::results::SweepResults;
use run_files::run_record::RunRecord;
use run_files::wording::count;
use run_report::report::ReportTable;
use run_report::statistics::Estimate;

/// Training times from here on are told in hours.
const LONG_SECONDS: f64 = 7200.0;

/// The main table: one row for each depth and form.
pub(in crate::sweep) fn main_table(results: &SweepResults) -> ReportTable {
    let is_matched = results.options.matching.quantity().is_some();
    let records: Vec<Vec<&RunRecord>> = (0..results.plan.groups.len())
        .map(|group| results.records_of(group))
        .collect();
    let in_hours = records
        .iter()
        .flatten()
        .filter_map(|run| run.timing)
        .any(|timing| timing.train_seconds >= LONG_SECONDS);

    let score = results.plan.score();
    let mut titles: Vec<String> = ["depth", "shortcuts", "seeds"].map(str::to_owned).into();
    if is_matched {
        titles.extend(["width", "mismatch"].map(str::to_owned));
    }
    titles.extend(["parameters", "multiply-accumulates an image"].map(str::to_owned));
    titles.extend(columns(score).map(|column| match column.key {
        "train_seconds" if in_hours => "training time, h".to_owned(),
        _ => column.title.to_owned(),
    }));

    let rows = results.plan.groups.iter().zip(&records);
    let rows = rows.map(|(group, records)| {
        let planned = results.options.seeds as usize;
        let seeds = if records.len() == planned {
            planned.to_string()
        } else {
            format!("{} of {planned}", records.len())
        };
        let shortcuts = if group.shortcuts { "yes" } else { "no" };
        let mut row = vec![group.depth.to_string(), shortcuts.to_owned(), seeds];
        if is_matched {
            row.push(group.width.to_string());
            row.push(format!("{:+.2} %", 100.0 * group.mismatch.unwrap_or(0.0)));
        }
        row.extend([count(group.parameters), count(group.multiply_accumulates)]);
        row.extend(columns(score).map(|column| {
            let estimate = column.estimate(records);
            match column.key {
                "train_seconds" if in_hours => column.text(estimate.map(hours)),
                _ => column.text(estimate),
            }
        }));
        row
    });
    ReportTable {
        columns: titles,
        rows: rows.collect(),
        notes: main_notes(results),
    }
}

fn hours(seconds: Estimate) -> Estimate {
    Estimate {
        mean: seconds.mean / 3600.0,
        standard_deviation: seconds
            .standard_deviation
            .map(|deviation| deviation / 3600.0),
        ..seconds
    }
}
