//! Until when a part may go on.

use std::time::{Duration, Instant};

use super::budget::Share;

/// What is left of a part's time: what it compiles does not count, except in all of it.
pub(super) struct PartClock {
    share: Share,
    began: Instant,
    /// What counted before the present stage.
    counted: Duration,
    /// Since when the present stage counts; none where it compiles.
    since: Option<Instant>,
}

impl PartClock {
    /// Of a part that begins now.
    pub(super) fn start(share: Share, now: Instant) -> Self {
        Self {
            share,
            began: now,
            counted: Duration::ZERO,
            since: Some(now),
        }
    }

    /// A stage begins.
    pub(super) fn turn(&mut self, compiles: bool, now: Instant) {
        self.counted = self.counted(now);
        self.since = (!compiles).then_some(now);
    }

    /// When the part is ended, unless another stage begins before.
    pub(super) fn end(&self) -> Instant {
        let end = self.began + self.share.whole;
        match self.since {
            Some(since) => end.min(since + self.share.limit.saturating_sub(self.counted)),
            None => end,
        }
    }

    /// What a part that was ended took too long for.
    pub(super) fn exceeded(&self, now: Instant) -> String {
        let Share { limit, whole } = self.share;
        if self.counted(now) >= limit {
            format!("{:.0} s", limit.as_secs_f64())
        } else {
            format!("{:.0} s, compiling included", whole.as_secs_f64())
        }
    }

    fn counted(&self, now: Instant) -> Duration {
        let of_stage = self.since.map(|since| now.saturating_duration_since(since));
        self.counted + of_stage.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compiles_does_not_count_and_all_of_it_ends() {
        let seconds = Duration::from_secs;
        let share = Share {
            limit: seconds(10),
            whole: seconds(15),
        };
        let began = Instant::now();
        let mut clock = PartClock::start(share, began);
        let end = |clock: &PartClock| (clock.end() - began).as_secs();
        assert_eq!(end(&clock), 10);
        clock.turn(true, began + seconds(2));
        assert_eq!(end(&clock), 15);
        clock.turn(false, began + seconds(5));
        // Two seconds before, and eight from now on.
        assert_eq!(end(&clock), 13);
        assert_eq!(clock.exceeded(began + seconds(13)), "10 s");
        clock.turn(false, began + seconds(6));
        assert_eq!(end(&clock), 13);
        clock.turn(true, began + seconds(7));
        clock.turn(false, began + seconds(12));
        assert_eq!(end(&clock), 15);
        let text = clock.exceeded(began + seconds(15));
        assert_eq!(text, "15 s, compiling included");
    }
}
