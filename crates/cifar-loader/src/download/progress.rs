//! What a download tells its caller while it runs.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// Something that happened; handed to the caller's closure.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The members are in place and right; nothing is downloaded.
    AlreadyPresent {
        /// The folder of members.
        folder: &'a Path,
    },
    /// Another process works on the same folder; it is waited for.
    Waiting {
        /// Its process number, where known.
        holder: Option<u32>,
    },
    /// A request is about to be sent.
    Connecting {
        /// The mirror.
        url: &'a str,
        /// Number of this try at the mirror, from 1.
        attempt: u32,
        /// Bytes already here, which are not asked for again; 0 for a new start.
        resume_from: u64,
    },
    /// Bytes arrived. At most ten a second.
    Transfer {
        /// The mirror.
        url: &'a str,
        /// Bytes of the container that are here.
        bytes: u64,
        /// Bytes of the whole container, where the server says so.
        total: Option<u64>,
        /// Bytes a second over the last 10 seconds; `None` in the first half second.
        rate: Option<f64>,
        /// Time left at that rate.
        time_left: Option<Duration>,
    },
    /// The mirror is slower than the limit of the options.
    Slow {
        /// The mirror.
        url: &'a str,
        /// Bytes a second over the window of the options.
        rate: f64,
        /// Time left at that rate, where the total is known.
        time_left: Option<Duration>,
        /// The mirror that is tried instead; `None` when it stays with this one.
        next: Option<&'a str>,
    },
    /// What was received cannot be continued and is thrown away.
    Restarting {
        /// The mirror.
        url: &'a str,
        /// Why, in one line.
        reason: &'a str,
    },
    /// A try failed and is repeated after a pause.
    Retrying {
        /// The mirror.
        url: &'a str,
        /// Why it failed, in one line.
        reason: &'a str,
        /// The pause.
        delay: Duration,
    },
    /// A mirror is given up.
    GivingUp {
        /// The mirror.
        url: &'a str,
        /// Why, in one line.
        reason: &'a str,
        /// The mirror that is tried next.
        next: Option<&'a str>,
    },
    /// Members are being hashed and written.
    Verifying {
        /// Bytes of members so far.
        bytes: u64,
        /// Bytes of all members.
        total: u64,
    },
    /// All members are verified and in place.
    Published {
        /// The folder of members.
        folder: &'a Path,
    },
}

/// The rate of the last seconds.
pub(crate) struct Meter {
    window: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    pub(crate) fn new(window: Duration, now: Instant, bytes: u64) -> Self {
        Self {
            window,
            samples: VecDeque::from([(now, bytes)]),
        }
    }

    /// Takes note that `bytes` are here at `now`.
    pub(crate) fn record(&mut self, now: Instant, bytes: u64) {
        self.samples.push_back((now, bytes));
        // One sample at or before the window's start stays, so that a pause counts.
        while self
            .samples
            .get(1)
            .is_some_and(|(time, _)| now.duration_since(*time) >= self.window)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes a second over the window, or since the start while that is shorter.
    pub(crate) fn rate(&self) -> Option<f64> {
        let ((start, first), (end, last)) = (*self.samples.front()?, *self.samples.back()?);
        let seconds = end.duration_since(start).as_secs_f64();
        (seconds >= 0.5).then(|| last.saturating_sub(first) as f64 / seconds)
    }

    /// Time that `bytes_left` take at the present rate.
    pub(crate) fn time_left(&self, bytes_left: Option<u64>) -> Option<Duration> {
        Duration::try_from_secs_f64(bytes_left? as f64 / self.rate()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_window() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(Duration::from_secs(10), start, 1000);
        assert_eq!(meter.rate(), None);
        meter.record(at(5), 6000);
        assert_eq!(meter.rate(), Some(1000.0));
        (6..=30).for_each(|second| meter.record(at(second), 6000 + (second - 5) * 100));
        assert_eq!(meter.rate(), Some(100.0));
        assert_eq!(meter.time_left(Some(500)), Some(Duration::from_secs(5)));
        assert_eq!(meter.time_left(None), None);
    }

    #[test]
    fn a_standing_transfer_has_rate_zero_and_no_time_left() {
        let start = Instant::now();
        let mut meter = Meter::new(Duration::from_secs(10), start, 0);
        meter.record(start + Duration::from_secs(20), 0);
        assert_eq!(meter.rate(), Some(0.0));
        assert_eq!(meter.time_left(Some(1)), None);
    }
}
