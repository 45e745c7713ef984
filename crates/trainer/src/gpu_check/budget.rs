//! How long a part may take.

use std::time::Duration;

/// Below this nothing is begun.
const LEAST: Duration = Duration::from_millis(500);
/// A share of the budget that the last part, which everything else is compared with, finds left in any case.
const RESERVED: u32 = 16;

/// The time limit of the next part; none where too little is left to begin it.
///
/// No part gets more than half the budget, so that one that hangs leaves time for others. `is_last` is for parts that may
/// use the reserve.
pub(super) fn limit(budget: Duration, spent: Duration, is_last: bool) -> Option<Duration> {
    let reserved = if is_last {
        Duration::ZERO
    } else {
        budget / RESERVED
    };
    let left = budget.saturating_sub(spent).saturating_sub(reserved);
    (left >= LEAST).then(|| left.min(budget / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_takes_more_than_half_or_the_reserve() {
        let seconds = Duration::from_secs;
        let limit = |spent, is_last| limit(seconds(480), seconds(spent), is_last);
        assert_eq!(limit(0, false), Some(seconds(240)));
        assert_eq!(limit(300, false), Some(seconds(150)));
        assert_eq!(limit(450, false), None);
        assert_eq!(limit(450, true), Some(seconds(30)));
        assert_eq!(limit(480, true), None);
        assert_eq!(limit(1000, true), None);
    }

    #[test]
    fn without_a_budget_nothing_is_begun() {
        for is_last in [false, true] {
            assert_eq!(limit(Duration::ZERO, Duration::ZERO, is_last), None);
        }
    }
}
