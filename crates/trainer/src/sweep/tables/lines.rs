//! The results in short.

use super::comparison::comparison_table;
use crate::sweep::columns::columns;
use crate::sweep::results::SweepResults;

/// The results in short, a line for each row and each comparison.
pub(in crate::sweep) fn lines(results: &SweepResults) -> Vec<String> {
    let groups = results.plan.groups.iter().enumerate();
    let mut lines: Vec<String> = groups
        .map(|(position, group)| {
            let records = results.records_of(position);
            let told = columns(results.plan.score()).filter(|column| {
                [
                    "test_excess",
                    "test_bits_per_dim",
                    "test_cross_entropy_plus_kl",
                    "test_kl",
                    "active_dimensions",
                ]
                .contains(&column.key)
            });
            let told: Vec<String> = told
                .map(|column| {
                    let text = column.text(column.estimate(&records));
                    format!("{} {text}", column.title)
                })
                .collect();
            let seeds = if records.len() == 1 { "seed" } else { "seeds" };
            let label = group.label();
            format!(
                "{label:20}  {}  ({} {seeds})",
                told.join("  "),
                records.len()
            )
        })
        .collect();
    for row in comparison_table(results).rows {
        lines.push(format!("{}: {} nats, {}", row[0], row[1], row[3]));
    }
    lines
}
