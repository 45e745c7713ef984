//! How long a part may take.

use std::time::Duration;

/// Below this nothing is begun.
const LEAST: Duration = Duration::from_millis(500);
/// So many parts that hang behind their kernels, one after the other, leave nothing of the budget; three are enough that hang while they compile.
const LARGEST: u32 = 4;

/// The time of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// For what it does, without what it compiles.
    pub(super) limit: Duration,
    /// For all of it.
    pub(super) whole: Duration,
}

/// The time of the next part, which never goes past the budget; none where too little is left to begin it.
pub(super) fn share(budget: Duration, spent: Duration) -> Option<Share> {
    let left = budget.saturating_sub(spent);
    let limit = left.min(budget / LARGEST);
    let whole = left.min(limit + limit / 2);
    (limit >= LEAST).then_some(Share { limit, whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_compiles_takes_half_as_long_again_and_no_part_goes_past_the_budget() {
        let seconds = Duration::from_secs_f64;
        let share = |spent: f64| {
            let share = share(seconds(280.0), seconds(spent))?;
            Some([share.limit, share.whole].map(|one| one.as_secs_f64()))
        };
        assert_eq!(share(0.0), Some([70.0, 105.0]));
        assert_eq!(share(175.0), Some([70.0, 105.0]));
        assert_eq!(share(200.0), Some([70.0, 80.0]));
        assert_eq!(share(250.0), Some([30.0, 30.0]));
        assert_eq!(share(279.9), None);
        assert_eq!(share(1000.0), None);
        for spent in 0..2800 {
            let spent = f64::from(spent) / 10.0;
            let whole = share(spent).map_or(0.0, |[_, whole]| whole);
            assert!(spent + whole <= 280.0, "{spent} and {whole}");
        }
    }

    #[test]
    fn without_a_budget_nothing_is_begun() {
        assert_eq!(share(Duration::ZERO, Duration::ZERO), None);
    }
}
