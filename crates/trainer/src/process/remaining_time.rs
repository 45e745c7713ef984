//! A line now and then about what is done of a long computation over images.

use std::time::{Duration, Instant};

/// Time between two lines.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// Tells when a line is due, and what it says.
pub(crate) struct RemainingTime {
    whole: u64,
    begin: Instant,
    told: Instant,
}

impl RemainingTime {
    /// Of so many images, from now on.
    pub(crate) fn of(whole: u64) -> Self {
        let now = Instant::now();
        Self {
            whole,
            begin: now,
            told: now,
        }
    }

    /// The line that is due at `now`, when so many images are done; none between two lines.
    pub(crate) fn line(&mut self, done: u64, now: Instant) -> Option<String> {
        if now - self.told < BETWEEN_LINES || done == 0 {
            return None;
        }
        self.told = now;
        let left =
            (now - self.begin).as_secs_f64() / done as f64 * self.whole.saturating_sub(done) as f64;
        Some(format!(
            "{done} of {} images, about {:.0} minutes left",
            self.whole,
            (left / 60.0).ceil()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_every_half_minute_with_what_is_left() {
        let mut remaining = RemainingTime::of(1000);
        let at = |seconds| remaining.begin + Duration::from_secs(seconds);
        let times = [at(29), at(30), at(45), at(120)];
        let lines = times.map(|now| remaining.line(250, now));
        assert_eq!(
            lines,
            [
                None,
                // A quarter in half a minute: the rest takes a minute and a half.
                Some("250 of 1000 images, about 2 minutes left".to_owned()),
                None,
                Some("250 of 1000 images, about 6 minutes left".to_owned()),
            ]
        );
    }
}
