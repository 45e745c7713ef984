//! The measured columns of a sweep's table.

use run_files::run_record::RunRecord;
use run_report::statistics::Estimate;
use vae_measures::Likelihood;

/// One measured quantity of a run.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name in `results.json` and, with `_mean` and `_sd`, in `table.csv`.
    pub key: &'static str,
    /// Heading in the tables for people.
    pub title: &'static str,
    /// Digits after the decimal point there.
    pub digits: usize,
    /// Whether it counts something, so that a mean that is whole needs no digits.
    pub counts: bool,
    /// Whether it depends on the machine and its load, so that equal runs differ in it.
    pub reads_clock: bool,
    /// Under which likelihoods it means something.
    pub meaning: Meaning,
    /// The quantity of one run, in the unit of the key; none where the system did not tell.
    pub value: fn(&RunRecord) -> Option<f64>,
}

/// Under which likelihoods a quantity means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Whatever the likelihood.
    Always,
    /// Where the likelihood is a distribution over the 256 grey levels.
    OverLevels,
    /// Where it is the cross-entropy of grey levels.
    OfGreyLevels,
}

/// The columns of runs with this likelihood.
pub fn columns(likelihood: Likelihood) -> impl Iterator<Item = &'static Column> {
    static ALL: [Column; COLUMNS.len()] = COLUMNS;
    ALL.iter().filter(move |column| match column.meaning {
        Meaning::Always => true,
        Meaning::OverLevels => likelihood.is_over_levels(),
        Meaning::OfGreyLevels => !likelihood.is_over_levels(),
    })
}

/// Every measured column, in the order of the table.
pub const COLUMNS: [Column; 14] = [
    Column {
        key: "epochs",
        title: "epochs",
        digits: 1,
        counts: true,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(f64::from(run.summary.last.epoch)),
    },
    Column {
        key: "best_epoch",
        title: "best epoch",
        digits: 1,
        counts: true,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(f64::from(run.summary.best.epoch)),
    },
    Column {
        key: "train_seconds",
        title: "training time, s",
        digits: 1,
        counts: false,
        reads_clock: true,
        meaning: Meaning::Always,
        value: |run| Some(run.timing?.train_seconds),
    },
    Column {
        key: "seconds_per_epoch",
        title: "s an epoch",
        digits: 2,
        counts: false,
        reads_clock: true,
        meaning: Meaning::Always,
        value: |run| Some(run.timing?.seconds_per_epoch),
    },
    Column {
        key: "images_per_second",
        title: "images/s",
        digits: 1,
        counts: false,
        reads_clock: true,
        meaning: Meaning::Always,
        value: |run| Some(run.timing?.images_per_second),
    },
    Column {
        key: "peak_memory_mebibytes",
        title: "peak memory, MiB",
        digits: 0,
        counts: false,
        reads_clock: true,
        meaning: Meaning::Always,
        value: |run| {
            let bytes = run.timing?.peak_memory_bytes?;
            Some(bytes as f64 / (1u64 << 20) as f64)
        },
    },
    Column {
        key: "training_loss",
        title: "training loss",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(run.summary.best.train.loss),
    },
    Column {
        key: "validation_loss",
        title: "validation loss",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(run.summary.best.valid.loss),
    },
    Column {
        key: "test_cross_entropy",
        title: "test cross-entropy",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(run.summary.test.cross_entropy),
    },
    Column {
        key: "test_excess",
        title: "excess over the floor",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::OfGreyLevels,
        value: test_excess,
    },
    Column {
        key: "test_negative_elbo",
        title: "test negative ELBO",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::OverLevels,
        value: test_negative_elbo,
    },
    Column {
        key: "test_bits_per_dim",
        title: "test bits/dim",
        digits: 4,
        counts: false,
        reads_clock: false,
        meaning: Meaning::OverLevels,
        value: |run| run.summary.test_bits_per_dim,
    },
    Column {
        key: "test_kl",
        title: "KL",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(run.summary.test.kl),
    },
    Column {
        key: "active_dimensions",
        title: "active latent dimensions",
        digits: 1,
        counts: true,
        reads_clock: false,
        meaning: Meaning::Always,
        value: |run| Some(run.summary.latent.active() as f64),
    },
];

/// Cross-entropy on the test set above the pixels' own entropy, in nats an image: what depths are compared by.
pub(super) fn test_excess(run: &RunRecord) -> Option<f64> {
    // A log-probability over grey levels has no floor.
    Some(run.summary.test.excess).filter(|excess| !excess.is_nan())
}

/// The negative evidence lower bound on the test set in nats an image: what depths are compared by where there is no floor.
pub(super) fn test_negative_elbo(run: &RunRecord) -> Option<f64> {
    Some(run.summary.test.cross_entropy + run.summary.test.kl)
}

impl Column {
    /// Mean and spread over runs; none where no run tells the quantity.
    pub fn estimate(&self, runs: &[&RunRecord]) -> Option<Estimate> {
        let values: Vec<f64> = runs.iter().filter_map(|run| (self.value)(run)).collect();
        Estimate::of(&values)
    }

    /// An estimate for people, as it stands in the tables, with the column's digits.
    pub fn text(&self, estimate: Option<Estimate>) -> String {
        // A count that is the same in every run needs neither digits nor a spread of zero.
        let same = estimate.filter(|estimate| {
            self.counts
                && estimate.mean.fract() == 0.0
                && estimate.standard_deviation.unwrap_or(0.0) == 0.0
        });
        match same {
            Some(estimate) => format!("{:.0}", estimate.mean),
            None => estimate_text(estimate, self.digits),
        }
    }
}

/// `mean ± standard deviation`, the value alone where there is one run, or a dash where there is none.
pub(super) fn estimate_text(estimate: Option<Estimate>, digits: usize) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(Estimate {
            mean,
            standard_deviation: Some(deviation),
            ..
        }) => format!("{mean:.digits$} ± {deviation:.digits$}"),
        Some(Estimate { mean, .. }) => format!("{mean:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str, values: &[f64]) -> String {
        let column = COLUMNS.iter().find(|column| column.key == key);
        column.expect("a column").text(Estimate::of(values))
    }

    #[test]
    fn estimates_read_as_mean_and_spread() {
        // Mean 2, deviation the root of ((1 + 0 + 1) / 2) = 1.
        assert_eq!(text("test_kl", &[1.0, 2.0, 3.0]), "2.00 ± 1.00");
        assert_eq!(text("test_kl", &[1847.666]), "1847.67");
        assert_eq!(text("test_kl", &[33.0, 33.0]), "33.00 ± 0.00");
        assert_eq!(text("epochs", &[4.0, 4.0]), "4");
        assert_eq!(text("epochs", &[4.0, 5.0]), "4.5 ± 0.7");
        assert_eq!(text("active_dimensions", &[7.0]), "7");
        assert_eq!(text("test_kl", &[]), "-");
    }

    #[test]
    fn bits_per_dimension_stand_where_the_likelihood_has_them() {
        let keys = |likelihood: &str| -> Vec<&str> {
            let likelihood = likelihood.parse().expect("a likelihood");
            columns(likelihood).map(|column| column.key).collect()
        };
        let (grey, levels) = (keys("bernoulli"), keys("logistic-mixture:10"));
        assert!(grey.contains(&"test_excess") && !grey.contains(&"test_bits_per_dim"));
        assert!(levels.contains(&"test_bits_per_dim") && !levels.contains(&"test_excess"));
        assert_eq!((grey.len(), levels.len()), (12, 13));
    }

    #[test]
    fn keys_are_unique() {
        let mut keys = COLUMNS.map(|column| column.key).to_vec();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), COLUMNS.len());
    }
}
