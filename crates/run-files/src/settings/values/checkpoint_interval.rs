//! How often a checkpoint is written within an epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::UnknownChoice;

/// How often a checkpoint is written within an epoch: `500` is every 500 steps, `5m` every 5 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CheckpointInterval {
    /// Whenever the number of steps since the run began is a multiple of this one, at least 1.
    Steps(u64),
    /// Once as many minutes have gone by, above 0.
    Minutes(f64),
}

impl CheckpointInterval {
    /// The forms an interval is written in.
    pub const FORMS: &'static str = "a number of steps from 1 (500) or of minutes above 0 (5m)";

    /// Whether a checkpoint is due at the end of a step.
    pub fn is_due(self, steps: u64, seconds_since_checkpoint: f64) -> bool {
        match self {
            Self::Steps(interval) => steps.is_multiple_of(interval),
            Self::Minutes(minutes) => seconds_since_checkpoint >= 60.0 * minutes,
        }
    }
}

impl fmt::Display for CheckpointInterval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(formatter, "{steps}"),
            Self::Minutes(minutes) => write!(formatter, "{minutes}m"),
        }
    }
}

impl FromStr for CheckpointInterval {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let interval = match text.strip_suffix('m') {
            Some(minutes) => minutes
                .parse()
                .ok()
                .filter(|minutes: &f64| minutes.is_finite() && *minutes > 0.0)
                .map(Self::Minutes),
            None => text
                .parse()
                .ok()
                .filter(|steps| *steps > 0)
                .map(Self::Steps),
        };
        interval.ok_or_else(|| UnknownChoice {
            given: text.to_owned(),
            allowed: Self::FORMS.to_owned(),
        })
    }
}

impl TryFrom<String> for CheckpointInterval {
    type Error = UnknownChoice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CheckpointInterval> for String {
    fn from(interval: CheckpointInterval) -> Self {
        interval.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_minutes_are_told_apart() {
        assert_eq!("5".parse(), Ok(CheckpointInterval::Steps(5)));
        assert_eq!("5m".parse(), Ok(CheckpointInterval::Minutes(5.0)));
        for interval in ["5", "0.25m"] {
            let parsed: CheckpointInterval = interval.parse().unwrap();
            assert_eq!(parsed.to_string(), interval);
        }
    }

    #[test]
    fn steps_are_due_at_multiples_and_minutes_by_the_clock() {
        let steps = CheckpointInterval::Steps(5);
        assert!(steps.is_due(10, 0.0) && !steps.is_due(11, 1e9));
        let minutes = CheckpointInterval::Minutes(0.5);
        assert!(minutes.is_due(1, 30.0) && !minutes.is_due(10, 29.9));
    }
}
