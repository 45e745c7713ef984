//! The weight of the KL divergence over a training.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the KL divergence's weight in the objective grows; beta multiplies it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KlSchedule {
    /// 1 from the first step.
    #[default]
    None,
    /// From `floor` at the first step straight to 1 after `steps` updates (Bowman et al. 2016).
    Linear {
        /// Updates until the weight is 1.
        steps: u64,
        /// Weight of the first step, 0 to 1.
        floor: f64,
    },
    /// `cycles` times from 0 to 1 within `total` updates, then 1 (Fu et al. 2019).
    Cyclical {
        /// Updates of all cycles together.
        total: u64,
        /// Number of cycles.
        cycles: u64,
        /// Share of a cycle in which the weight grows; in (0, 1\].
        ratio: f64,
    },
}

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no KL schedule: write {}", KlSchedule::FORMS)]
pub struct KlScheduleError {
    /// What was given.
    pub given: String,
}

impl KlSchedule {
    /// How schedules are written.
    pub const FORMS: &'static str = "none, linear:STEPS, linear:STEPS:FLOOR, cyclical:TOTAL:CYCLES or cyclical:TOTAL:CYCLES:RATIO";

    /// The weight of the next step, after `updates` of them.
    pub fn weight(self, updates: u64) -> f64 {
        match self {
            Self::None | Self::Linear { steps: 0, .. } => 1.0,
            Self::Linear { steps, floor } => {
                floor + (1.0 - floor) * (updates as f64 / steps as f64).min(1.0)
            }
            Self::Cyclical { total, cycles, .. } if updates >= total || cycles == 0 => 1.0,
            Self::Cyclical {
                total,
                cycles,
                ratio,
            } => {
                let place = (updates % total.div_ceil(cycles)) as f64;
                let share = place / (total as f64 / cycles as f64);
                (share / ratio).min(1.0)
            }
        }
    }

    /// The first update whose weight, and that of all after it, is 1.
    pub fn end(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Linear { steps, .. } => steps,
            Self::Cyclical { total, .. } => total,
        }
    }
}

impl fmt::Display for KlSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Linear { steps, floor: 0.0 } => write!(formatter, "linear:{steps}"),
            Self::Linear { steps, floor } => write!(formatter, "linear:{steps}:{floor}"),
            Self::Cyclical {
                total,
                cycles,
                ratio,
            } => {
                write!(formatter, "cyclical:{total}:{cycles}:{ratio}")
            }
        }
    }
}

impl FromStr for KlSchedule {
    type Err = KlScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| KlScheduleError {
            given: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<KlSchedule> {
    let mut words = text.split(':');
    let kind = words.next()?;
    let given: Vec<&str> = words.collect();
    let share = |text: &str| {
        text.parse::<f64>()
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
    };
    match (kind, given.as_slice()) {
        ("none", []) => Some(KlSchedule::None),
        ("linear", [steps]) => Some(KlSchedule::Linear {
            steps: steps.parse().ok()?,
            floor: 0.0,
        }),
        ("linear", [steps, floor]) => Some(KlSchedule::Linear {
            steps: steps.parse().ok()?,
            floor: share(floor)?,
        }),
        ("cyclical", [total, cycles, ratio @ ..]) if ratio.len() <= 1 => {
            let (total, cycles) = (total.parse().ok()?, cycles.parse().ok()?);
            // The paper's R.
            let ratio = ratio.first().map_or(Some(0.5), |ratio| share(ratio))?;
            (cycles > 0 && cycles <= total && ratio > 0.0).then_some(KlSchedule::Cyclical {
                total,
                cycles,
                ratio,
            })
        }
        _ => None,
    }
}

impl TryFrom<String> for KlSchedule {
    type Error = KlScheduleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KlSchedule> for String {
    fn from(schedule: KlSchedule) -> Self {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cycles_are_no_warm_up() {
        let none = KlSchedule::Cyclical {
            total: 10,
            cycles: 0,
            ratio: 0.5,
        };
        assert_eq!(none.weight(3), 1.0);
    }

    #[test]
    fn schedules_are_read_as_they_are_written() {
        for text in [
            "none",
            "linear:1000",
            "linear:5:0.25",
            "cyclical:1000:4:0.5",
        ] {
            let schedule: KlSchedule = text.parse().expect("a schedule");
            assert_eq!(schedule.to_string(), text);
        }
        let short: KlSchedule = "cyclical:1000:4".parse().expect("a schedule");
        assert_eq!(short.to_string(), "cyclical:1000:4:0.5");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "linear",
            "linear:",
            "linear:-1",
            "linear:10:2",
            "linear:10:nan",
            "cyclical:10",
            "cyclical:10:0",
            "cyclical:3:4",
            "cyclical:10:2:0",
            "none:1",
            "cyclical:1:1:1:1",
        ] {
            let error = text.parse::<KlSchedule>().expect_err(text);
            assert!(error.to_string().contains("linear:STEPS"), "{text}");
        }
    }

    #[test]
    fn the_weight_is_1_from_the_end_on() {
        for text in ["none", "linear:7:0.1", "cyclical:1000:3:0.7"] {
            let schedule: KlSchedule = text.parse().expect("a schedule");
            assert_eq!(schedule.weight(schedule.end()), 1.0, "{text}");
            assert_eq!(schedule.weight(u64::MAX), 1.0, "{text}");
        }
    }
}
