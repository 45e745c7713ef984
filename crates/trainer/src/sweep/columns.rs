//! The measured columns of a sweep's table.

use run_files::run_record::RunRecord;
use run_files::settings::Settings;
use run_files::wording::mebibytes;
use run_report::statistics::Estimate;

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

/// For which runs a quantity means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// For all.
    Always,
    /// Where the groups are compared by this.
    By(Score),
}

/// What the groups of a sweep are compared by, on the test set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Cross-entropy of grey levels above the pixels' own entropy.
    Excess,
    /// The negative ELBO, where the likelihood is a distribution over the 256 grey levels.
    NegativeElbo,
    /// The same sum where it is no bound, because the post's sampler draws from another distribution than the KL divergence is of.
    CrossEntropyPlusKl,
}

impl Score {
    /// Of runs with these settings.
    pub fn of(settings: &Settings) -> Self {
        match (
            settings.likelihood.is_over_levels(),
            settings.bounds_the_likelihood(),
        ) {
            (false, _) => Self::Excess,
            (true, true) => Self::NegativeElbo,
            (true, false) => Self::CrossEntropyPlusKl,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Excess => "excess",
            Self::NegativeElbo => "negative ELBO",
            Self::CrossEntropyPlusKl => "cross-entropy plus KL",
        }
    }

    /// Its key in `results.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Excess => "test_excess",
            Self::NegativeElbo => "test_negative_elbo",
            Self::CrossEntropyPlusKl => "test_cross_entropy_plus_kl",
        }
    }

    /// Of a run, in nats an image.
    pub fn value(self, run: &RunRecord) -> Option<f64> {
        match self {
            Self::Excess => test_excess(run),
            Self::NegativeElbo | Self::CrossEntropyPlusKl => test_cross_entropy_plus_kl(run),
        }
    }
}

/// The columns of runs that are compared by `score`.
pub fn columns(score: Score) -> impl Iterator<Item = &'static Column> {
    static ALL: [Column; COLUMNS.len()] = COLUMNS;
    ALL.iter().filter(move |column| match column.meaning {
        Meaning::Always => true,
        Meaning::By(of) => of == score,
    })
}

/// Every measured column, in the order of the table.
pub const COLUMNS: [Column; 15] = [
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
        value: |run| Some(mebibytes(run.timing?.peak_memory_bytes?)),
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
        meaning: Meaning::By(Score::Excess),
        value: test_excess,
    },
    Column {
        key: "test_negative_elbo",
        title: "test negative ELBO",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::By(Score::NegativeElbo),
        value: test_cross_entropy_plus_kl,
    },
    Column {
        key: "test_cross_entropy_plus_kl",
        title: "test cross-entropy plus KL",
        digits: 2,
        counts: false,
        reads_clock: false,
        meaning: Meaning::By(Score::CrossEntropyPlusKl),
        value: test_cross_entropy_plus_kl,
    },
    Column {
        key: "test_bits_per_dim",
        title: "test bits/dim",
        digits: 4,
        counts: false,
        reads_clock: false,
        meaning: Meaning::By(Score::NegativeElbo),
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

/// Cross-entropy on the test set above the pixels' own entropy, in nats an image.
fn test_excess(run: &RunRecord) -> Option<f64> {
    // A log-probability over grey levels has no floor.
    Some(run.summary.test.excess).filter(|excess| !excess.is_nan())
}

/// On the test set, in nats an image.
fn test_cross_entropy_plus_kl(run: &RunRecord) -> Option<f64> {
    Some(run.summary.test.cross_entropy_plus_kl())
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
    use run_files::settings::Sampler;

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
        let keys_of = |likelihood: &str, sampler| -> Vec<&str> {
            let settings = Settings {
                likelihood: likelihood.parse().expect("a likelihood"),
                sampler,
                ..Settings::default()
            };
            columns(Score::of(&settings))
                .map(|column| column.key)
                .collect()
        };
        let keys = |likelihood| keys_of(likelihood, Sampler::Correct);
        let (grey, levels) = (keys("bernoulli"), keys("logistic-mixture:10"));
        assert!(grey.contains(&"test_excess") && !grey.contains(&"test_bits_per_dim"));
        assert!(levels.contains(&"test_bits_per_dim") && !levels.contains(&"test_excess"));
        assert_eq!((grey.len(), levels.len()), (12, 13));
        // Under the post's sampler the sum is no bound; its own cross-entropy is what it was.
        assert_eq!(keys_of("bernoulli", Sampler::Blog), grey);
        let unbound = keys_of("logistic", Sampler::Blog);
        assert!(unbound.contains(&"test_cross_entropy_plus_kl"));
        assert!(
            unbound
                .iter()
                .all(|key| !key.contains("elbo") && !key.contains("bits"))
        );
    }

    #[test]
    fn keys_are_unique() {
        let mut keys = COLUMNS.map(|column| column.key).to_vec();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), COLUMNS.len());
    }
}
