//! The table of comparisons.

use crate::sweep::results::SweepResults;
use run_report::report::ReportTable;

/// The comparisons, in nats an image of what the groups are compared by.
pub(in crate::sweep) fn comparison_table(results: &SweepResults) -> ReportTable {
    let comparisons = results.comparisons();
    let group = |position: usize| results.plan.groups[position].label();
    let rows = comparisons.iter().map(|comparison| {
        let interval = comparison.interval.map_or("-".to_owned(), |interval| {
            format!("{:+.2} to {:+.2}", interval.low, interval.high)
        });
        let difference = comparison
            .difference
            .map_or("-".to_owned(), |difference| format!("{difference:+.2}"));
        vec![
            format!(
                "{} minus {}",
                group(comparison.later),
                group(comparison.earlier)
            ),
            difference,
            interval,
            results.in_words(comparison.verdict()),
            results.in_words(comparison.simultaneous_verdict()),
        ]
    });
    let columns = [
        format!("difference of {}", results.plan.score().name()),
        "nats an image".to_owned(),
        "95 % confidence interval".to_owned(),
        "verdict".to_owned(),
        "all intervals together".to_owned(),
    ];
    ReportTable {
        rows: rows.collect(),
        columns: columns.into(),
        notes: vec![
            "Welch's t interval: it allows each group its own variance and takes the runs as independent. Runs with one seed \
             share the held-out images, the order of the images and the noise, but not the model, so they are not treated as \
             pairs; where they do rise and fall together, the interval is wider than it need be."
                .to_owned(),
            "Of intervals at 95 %, one in twenty misses the true difference by chance alone. The last column is the verdict \
             where all of them together are held to 95 % (Bonferroni's correction)."
                .to_owned(),
            "\"Not distinguishable\" does not mean equal: with few seeds only large differences can be told from noise, and \
             the intervals hold for the spread between seeds of this training, not for another schedule or data set."
                .to_owned(),
        ],
    }
}
