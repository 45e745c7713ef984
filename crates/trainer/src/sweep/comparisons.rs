//! Which differences between the groups of a sweep its seeds can tell from noise.

use serde::Serialize;

use super::plan::PlannedGroup;
use run_report::statistics::{Estimate, WelchInterval};

/// Probability with which each interval holds its true difference.
const CONFIDENCE: f64 = 0.95;

/// What is compared (the excess, or cross-entropy plus KL where there is no floor) of one group minus that of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The group that is subtracted, by position.
    pub earlier: usize,
    /// The group it is subtracted from, by position.
    pub later: usize,
    /// Difference of the means, in nats an image; none where one has no finished run.
    pub difference: Option<f64>,
    /// With 95 % confidence; none where one has fewer than two runs.
    pub interval: Option<WelchInterval>,
    /// The same with the confidence that all intervals together need for 95 % (Bonferroni's correction).
    pub simultaneous_interval: Option<WelchInterval>,
}

/// Compares, by their scores, of which lower is better: with and without shortcuts alike, each depth with the one before and with the first;
/// and at each depth, without shortcuts against with.
pub fn compare(groups: &[PlannedGroup], scores: &[Option<Estimate>]) -> Vec<Comparison> {
    let mut comparisons: Vec<Comparison> = pairs(groups)
        .into_iter()
        .map(|(earlier, later)| {
            let both = scores[earlier].zip(scores[later]);
            Comparison {
                earlier,
                later,
                difference: both.map(|(earlier, later)| later.mean - earlier.mean),
                interval: both
                    .and_then(|(earlier, later)| WelchInterval::of(&earlier, &later, CONFIDENCE)),
                simultaneous_interval: None,
            }
        })
        .collect();
    let intervals = comparisons
        .iter()
        .filter(|comparison| comparison.interval.is_some())
        .count();
    for comparison in &mut comparisons {
        let both = scores[comparison.earlier].zip(scores[comparison.later]);
        comparison.simultaneous_interval = both.and_then(|(earlier, later)| {
            let confidence = 1.0 - (1.0 - CONFIDENCE) / intervals.max(1) as f64;
            WelchInterval::of(&earlier, &later, confidence)
        });
    }
    comparisons
}

fn pairs(groups: &[PlannedGroup]) -> Vec<(usize, usize)> {
    let of_form = |shortcuts: bool| -> Vec<usize> {
        let positions =
            (0..groups.len()).filter(|position| groups[*position].shortcuts == shortcuts);
        positions.collect()
    };
    let mut pairs = Vec::new();
    for positions in [of_form(true), of_form(false)] {
        pairs.extend(positions.windows(2).map(|pair| (pair[0], pair[1])));
        // The second is adjacent to the first and stands above already.
        pairs.extend(positions.iter().skip(2).map(|later| (positions[0], *later)));
    }
    for residual in of_form(true) {
        let plain = of_form(false)
            .into_iter()
            .find(|plain| groups[*plain].depth == groups[residual].depth);
        pairs.extend(plain.map(|plain| (residual, plain)));
    }
    pairs
}

impl Comparison {
    /// What can be said of the difference.
    pub fn verdict(&self) -> &'static str {
        match (&self.interval, self.difference) {
            (Some(interval), _) => verdict(interval),
            (None, Some(_)) => "one seed: no interval",
            (None, None) => "no finished run yet",
        }
    }

    /// What can be said of it together with all the others.
    pub fn simultaneous_verdict(&self) -> &'static str {
        self.simultaneous_interval.as_ref().map_or("-", verdict)
    }
}

fn verdict(interval: &WelchInterval) -> &'static str {
    if interval.contains_zero() {
        "not distinguishable"
    } else if interval.low > 0.0 {
        "higher excess"
    } else if interval.high < 0.0 {
        "lower excess"
    } else {
        // Not a number: a run ended with losses that are none.
        "undefined"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(forms: &[(u32, bool)]) -> Vec<PlannedGroup> {
        let group = |&(depth, shortcuts)| PlannedGroup {
            depth,
            shortcuts,
            width: 1.0,
            parameters: 1,
            multiply_accumulates: 1,
            mismatch: None,
        };
        forms.iter().map(group).collect()
    }

    #[test]
    fn neighbours_the_first_and_the_other_form_are_compared_once_each() {
        let residual = groups(&[(28, true), (40, true), (70, true), (100, true)]);
        assert_eq!(pairs(&residual), [(0, 1), (1, 2), (2, 3), (0, 2), (0, 3)]);
        let both = groups(&[(28, true), (28, false), (40, true), (40, false)]);
        assert_eq!(pairs(&both), [(0, 2), (1, 3), (0, 1), (2, 3)]);
        assert_eq!(pairs(&groups(&[(28, true)])), []);
    }

    #[test]
    fn an_interval_with_zero_in_it_is_not_distinguishable() {
        let groups = groups(&[(28, true), (40, true), (70, true)]);
        let excesses = [
            Estimate::of(&[80.0, 84.0]),
            Estimate::of(&[81.0, 85.0, 83.5]),
            Estimate::of(&[140.0, 141.0, 140.5]),
        ];
        let comparisons = compare(&groups, &excesses);
        let verdicts: Vec<&str> = comparisons.iter().map(Comparison::verdict).collect();
        // 57.3 and 58.5 with standard errors of 1.2 and 2.0; with one degree of freedom t(0.975) is 12.7.
        assert_eq!(
            verdicts,
            ["not distinguishable", "higher excess", "higher excess"]
        );
        for comparison in &comparisons {
            let single = comparison.interval.expect("two values each");
            let simultaneous = comparison.simultaneous_interval.expect("two values each");
            assert!((simultaneous.confidence - (1.0 - 0.05 / 3.0)).abs() < 1e-15);
            assert!(simultaneous.low < single.low && simultaneous.high > single.high);
        }
        // At 1 - 0.05 / 3, t with one degree of freedom is 38: even 58.5 could then be noise.
        assert_eq!(comparisons[2].simultaneous_verdict(), "not distinguishable");
    }

    #[test]
    fn one_seed_has_no_interval() {
        let groups = groups(&[(28, true), (40, true), (70, true)]);
        let comparisons = compare(
            &groups,
            &[Estimate::of(&[80.0]), Estimate::of(&[85.0]), None],
        );
        assert_eq!(comparisons[0].difference, Some(5.0));
        assert_eq!(comparisons[0].verdict(), "one seed: no interval");
        assert_eq!(comparisons[0].simultaneous_verdict(), "-");
        assert_eq!(comparisons[1].verdict(), "no finished run yet");
    }
}
