//! The tables of a sweep, for people: means with their spread, comparisons, and the post's numbers beside ours.

use super::columns::{columns, estimate_text};
use super::plan::Protocol;
use super::published::{PUBLISHED_TEST_FLOOR, PublishedRun, published};
use super::results::SweepResults;
use run_files::run_record::{RunRecord, RunTiming};
use run_files::wording::count;
use run_report::report::ReportTable;
use run_report::statistics::Estimate;

/// Training times from here on are told in hours.
const LONG_SECONDS: f64 = 7200.0;

/// The main table: one row for each depth and form.
pub(super) fn main_table(results: &SweepResults) -> ReportTable {
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

fn main_notes(results: &SweepResults) -> Vec<String> {
    let floor = &results.data.floor;
    let settings = &results.plan.runs[0].settings;
    let latent_dim = settings.latent_dim;
    let mut notes = vec![
        "Mean ± sample standard deviation over the seeds; a single value where one seed is finished. Losses, cross-entropy \
         and KL in nats an image."
            .to_owned(),
        "Training and validation loss are those of the best epoch, which has the lowest validation loss and whose weights \
         are scored on the test set. The training loss is the mean over the epoch while the weights moved."
            .to_owned(),
        if let Some(reason) = settings.why_no_bound() {
            format!(
                "The likelihood is {}, a distribution over the 256 grey levels: test cross-entropy is -log p(image given latent). {reason}",
                settings.likelihood
            )
        } else if settings.likelihood.is_over_levels() {
            format!(
                "The likelihood is {}, a distribution over the 256 grey levels: test cross-entropy is -log p(image given latent), the \
                 negative ELBO adds the KL divergence to it, and bits/dim are that over 3072 ln 2, without penalties.",
                results.plan.likelihood()
            )
        } else {
            format!(
            "The excess is the test cross-entropy minus its floor, the entropy of the pixels themselves: {:.2} nats an image \
             on these {} test images (training images of seed 1: {:.2}), computed from the data \
             in float64.",
            floor.test, results.data.images.test, floor.train
        )
        },
        format!(
            "A latent dimension, of {latent_dim}, is active where the variance of the posterior mean over the test images is \
             above 0.01."
        ),
        "Training time counts training alone: the epochs at the measured rate, without evaluation, pictures and \
         checkpoints. Peak memory is that of the run's own process."
            .to_owned(),
    ];
    if results.options.plain {
        notes.push(
            "Without shortcuts there are no projections either, so such a model of the same width has fewer parameters."
                .to_owned(),
        );
    }
    if let Some(quantity) = results.options.matching.quantity() {
        notes.push(format!(
            "Widths are chosen so that the {quantity} are nearest to those of the first row; channels are whole numbers, so \
             the mismatch stays. The widths differ, and with them every other size of the model but the latent."
        ));
    }
    notes
}

/// The comparisons, in nats an image of what the groups are compared by.
pub(super) fn comparison_table(results: &SweepResults) -> ReportTable {
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

/// The post's rows beside ours, under its own protocol only.
pub(super) fn published_table(results: &SweepResults) -> Option<ReportTable> {
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

/// The results in short, a line for each row and each comparison.
pub(super) fn lines(results: &SweepResults) -> Vec<String> {
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

fn hours(seconds: Estimate) -> Estimate {
    Estimate {
        mean: seconds.mean / 3600.0,
        standard_deviation: seconds
            .standard_deviation
            .map(|deviation| deviation / 3600.0),
        ..seconds
    }
}

#[cfg(test)]
mod tests {
    use super::super::matching::Matching;
    use super::super::plan::SweepOptions;
    use super::super::results::tests::{options, results};
    use super::*;

    /// The cell under a heading.
    fn cell<'a>(table: &'a ReportTable, row: usize, column: &str) -> &'a str {
        let position = table.columns.iter().position(|title| title == column);
        &table.rows[row][position.unwrap_or_else(|| panic!("no column {column}"))]
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        for matching in [Matching::None, Matching::Parameters, Matching::Macs] {
            let results = results(SweepOptions {
                matching,
                protocol: Protocol::Blog,
                ..options()
            });
            let published = published_table(&results).expect("the post's protocol");
            for table in [main_table(&results), comparison_table(&results), published] {
                assert!(!table.rows.is_empty());
                for row in &table.rows {
                    assert_eq!(row.len(), table.columns.len(), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn the_main_table_states_seeds_spread_and_floor() {
        let table = main_table(&results(options()));
        assert_eq!(cell(&table, 0, "seeds"), "2");
        assert_eq!(cell(&table, 1, "seeds"), "1 of 2");
        // 80 and 82.
        assert_eq!(cell(&table, 0, "excess over the floor"), "81.00 ± 1.41");
        assert_eq!(cell(&table, 1, "excess over the floor"), "90.00");
        assert_eq!(cell(&table, 0, "parameters"), "26,815,683");
        assert_eq!(cell(&table, 0, "active latent dimensions"), "2");
        assert!(table.notes.iter().any(|note| note.contains("1681.70")));
    }

    #[test]
    fn under_the_posts_sampler_the_tables_have_no_bound_and_say_why() {
        let of = |protocol| {
            results(SweepOptions {
                protocol,
                likelihood: Some("logistic".to_owned()),
                ..options()
            })
        };
        let held_out = of(Protocol::HeldOut);
        assert_eq!(
            comparison_table(&held_out).columns[0],
            "difference of negative ELBO"
        );
        assert_eq!(
            cell(&main_table(&held_out), 0, "test negative ELBO"),
            "1795.80 ± 1.41"
        );
        let blog = of(Protocol::Blog);
        let table = main_table(&blog);
        // 1681.7 + 80 + 33.1 and 2 more.
        assert_eq!(
            cell(&table, 0, "test cross-entropy plus KL"),
            "1795.80 ± 1.41"
        );
        assert!(
            table
                .notes
                .iter()
                .any(|note| note.contains("bounds nothing"))
        );
        let told = format!(
            "{:?} {:?} {:?}",
            table.columns,
            comparison_table(&blog),
            lines(&blog)
        );
        assert!(!told.contains("ELBO") && !told.contains("bits"), "{told}");
        assert!(published_table(&blog).is_none());
    }

    #[test]
    fn matched_widths_stand_in_the_table_with_their_mismatch() {
        let table = main_table(&results(SweepOptions {
            matching: Matching::Macs,
            width: Some("0.05".to_owned()),
            ..options()
        }));
        assert_eq!(cell(&table, 0, "mismatch"), "+0.00 %");
        assert!(cell(&table, 1, "width").parse::<f64>().expect("a number") < 0.05);
        assert_ne!(cell(&table, 1, "mismatch"), "+0.00 %");
    }

    #[test]
    fn the_posts_row_stands_beside_ours_under_its_protocol_alone() {
        assert!(published_table(&results(options())).is_none());
        let table = published_table(&results(SweepOptions {
            protocol: Protocol::Blog,
            ..options()
        }))
        .expect("the post's protocol");
        assert_eq!(cell(&table, 0, "whose"), "the post");
        assert_eq!(cell(&table, 0, "last epoch: excess"), "81.56");
        assert_eq!(cell(&table, 1, "whose"), "here");
        assert_eq!(
            (cell(&table, 2, "depth"), cell(&table, 2, "epochs")),
            ("40", "274")
        );
    }

    #[test]
    fn differences_have_signs_and_verdicts() {
        let table = comparison_table(&results(options()));
        assert_eq!(
            table.rows[0][..4],
            [
                "depth 40, residual minus depth 28, residual",
                "+9.00",
                "-",
                "one seed: no interval"
            ]
        );
    }
}
