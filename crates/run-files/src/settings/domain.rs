//! The values a key allows: checking, parsing and describing them.

use std::str::FromStr;

use serde_json::{Number, Value};

/// The values a key allows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Domain {
    /// One of these names.
    Names(&'static [&'static str]),
    /// One of these integers.
    Integers(&'static [u64]),
    /// `low..=high`, a multiple of `step`.
    Integer { low: u64, high: u64, step: u64 },
    /// From `low` to `high`, each end open or closed.
    Number {
        low: f64,
        low_is_open: bool,
        high: f64,
        high_is_open: bool,
    },
    /// True or false.
    Boolean,
    /// Non-empty text.
    Path,
    /// A text that a type of its own reads.
    Text {
        is_one: fn(&str) -> bool,
        /// The forms it is written in, or the names that it is one of where there are usual ones.
        forms: &'static str,
        /// What a slip of the finger may have meant.
        usual: &'static [&'static str],
    },
}

impl Domain {
    /// An integer of `low..=high`.
    pub(super) const fn integer(low: u64, high: u64) -> Self {
        Self::Integer { low, high, step: 1 }
    }

    /// A number above 0 and at most `high`.
    pub(super) const fn above_zero(high: f64) -> Self {
        Self::Number {
            low: 0.0,
            low_is_open: true,
            high,
            high_is_open: false,
        }
    }

    /// A number from 0 to `high`.
    pub(super) const fn from_zero(high: f64) -> Self {
        Self::Number {
            low: 0.0,
            low_is_open: false,
            high,
            high_is_open: false,
        }
    }

    /// A number from 0 to below `high`.
    pub(super) const fn from_zero_below(high: f64) -> Self {
        Self::Number {
            low: 0.0,
            low_is_open: false,
            high,
            high_is_open: true,
        }
    }

    /// What `T` reads from text.
    pub(super) const fn text<T: FromStr>(
        forms: &'static str,
        usual: &'static [&'static str],
    ) -> Self {
        Self::Text {
            is_one: |text| text.parse::<T>().is_ok(),
            forms,
            usual,
        }
    }

    /// Whether a JSON value is one of them.
    pub(super) fn contains(&self, value: &Value) -> bool {
        match *self {
            Self::Names(names) => value.as_str().is_some_and(|name| names.contains(&name)),
            Self::Integers(integers) => value
                .as_u64()
                .is_some_and(|number| integers.contains(&number)),
            Self::Integer { low, high, step } => value
                .as_u64()
                .is_some_and(|number| (low..=high).contains(&number) && number % step == 0),
            Self::Number {
                low,
                low_is_open,
                high,
                high_is_open,
            } => value.as_f64().is_some_and(|number| {
                let above = if low_is_open {
                    number > low
                } else {
                    number >= low
                };
                let below = if high_is_open {
                    number < high
                } else {
                    number <= high
                };
                above && below
            }),
            Self::Boolean => value.is_boolean(),
            Self::Path => value.as_str().is_some_and(|path| !path.is_empty()),
            Self::Text { is_one, .. } => value.as_str().is_some_and(is_one),
        }
    }

    /// The values in words.
    pub(super) fn describe(&self) -> String {
        match *self {
            Self::Names(names) => format!("one of {}", names.join(", ")),
            Self::Integers(integers) => {
                let texts: Vec<String> = integers.iter().map(u64::to_string).collect();
                format!("one of {}", texts.join(", "))
            }
            Self::Integer { low, high, step: 1 } => format!("an integer from {low} to {high}"),
            Self::Integer { low, high, step } => {
                format!("a multiple of {step} from {low} to {high}")
            }
            Self::Number {
                low,
                low_is_open,
                high,
                high_is_open,
            } => {
                let above = if low_is_open { "above" } else { "from" };
                let below = if high_is_open { "below" } else { "at most" };
                format!("a number {above} {low} and {below} {high}")
            }
            Self::Boolean => "true or false".to_owned(),
            Self::Path => "a path that is not empty".to_owned(),
            Self::Text {
                forms, usual: [], ..
            } => forms.to_owned(),
            Self::Text { forms, .. } => format!("one of {forms}"),
        }
    }

    /// The JSON value that a text spells, where the text has the right form.
    pub(super) fn parse(&self, text: &str) -> Option<Value> {
        match self {
            Self::Names(_) | Self::Path | Self::Text { .. } => Some(Value::from(text)),
            Self::Integers(_) | Self::Integer { .. } => text.parse::<u64>().ok().map(Value::from),
            // JSON has no infinity and no NaN, so neither gets through.
            Self::Number { .. } => text
                .parse()
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
        }
    }

    /// The allowed name most like a text.
    pub(super) fn nearest(&self, text: &str) -> Option<&'static str> {
        match self {
            Self::Names(names) => nearest(text, names.iter().copied()),
            Self::Text { usual, .. } => nearest(text, usual.iter().copied()),
            _ => None,
        }
    }
}

/// The candidate most like `text`, if one is near enough to be a slip of the finger.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Below this similarity suggestions turn into guesses; clap draws the same line.
    const SIMILAR: f64 = 0.7;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro(&text.to_lowercase(), candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Activation, Key, Preset};

    #[test]
    fn slips_find_the_nearest_name_and_guesses_find_none() {
        let keys = || Key::ALL.map(Key::name);
        for (slip, name) in [
            ("batchsize", "batch_size"),
            ("latent-dim", "latent_dim"),
            ("learning_rat", "learning_rate"),
            ("EPOCHS", "epochs"),
            ("limit_tran", "limit_train"),
        ] {
            assert_eq!(nearest(slip, keys()), Some(name));
        }
        assert_eq!(nearest("qqq", keys()), None);
        assert_eq!(
            nearest("sigmod", Activation::NAMES.iter().copied()),
            Some("sigmoid")
        );
        assert_eq!(
            nearest("dept28", Preset::NAMES.iter().copied()),
            Some("depth28")
        );
    }

    #[test]
    fn domains_describe_open_and_closed_ends() {
        let number = |low_is_open, high_is_open| {
            Domain::Number {
                low: 0.0,
                low_is_open,
                high: 1.0,
                high_is_open,
            }
            .describe()
        };
        assert_eq!(number(true, false), "a number above 0 and at most 1");
        assert_eq!(number(false, true), "a number from 0 and below 1");
    }
}
