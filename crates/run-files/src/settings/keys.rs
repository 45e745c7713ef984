//! The settings by key: what their rows say, and checking values against it.

use serde_json::Value;

use super::SettingsError;
use super::domain::Domain;
use super::row::{Change, Row};
use super::rows::{DEPTHS, Key, ROWS};

/// A value that its key does not allow.
#[derive(Debug)]
pub(super) struct Rejected {
    value: String,
    allowed: String,
    nearest: Option<&'static str>,
}

impl Rejected {
    /// The error, saying which source gave the value.
    pub(super) fn into_error(self, key: Key, given_by: String) -> SettingsError {
        let Self {
            value,
            allowed,
            nearest,
        } = self;
        SettingsError::InvalidValue {
            key: key.name(),
            value,
            given_by,
            allowed,
            nearest,
        }
    }
}

impl Key {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The key in `config.json`, which is the name of the field.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The key of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The flag that sets the key; the constants of the schedule have none.
    pub fn flag(self) -> Option<&'static str> {
        self.row().flag
    }

    /// The environment variable that sets the key, by the post's own names where it had one.
    pub fn environment(self) -> Option<&'static str> {
        self.row().environment
    }

    /// What a continued run makes of another value.
    pub fn change(self) -> Change {
        self.row().change
    }

    /// The allowed values, in words, with the unit.
    pub fn allowed(self) -> String {
        format!("{}{}", self.domain().describe(), self.row().unit)
    }

    pub(super) fn domain(self) -> &'static Domain {
        &self.row().values
    }

    /// Whether `null` is a value, meaning none.
    pub(super) fn is_optional(self) -> bool {
        self.row().is_optional
    }

    /// Whether runs were recorded before there was such a key; its default is what they did.
    pub(super) fn is_recent(self) -> bool {
        self.row().is_recent
    }

    /// Whether `config.json` names the key only where its value is not the default.
    pub(super) fn is_left_out_at_default(self) -> bool {
        self.row().is_left_out_at_default
    }

    /// Texts that the key takes, and texts that it refuses: what tests of every setting go through.
    #[doc(hidden)]
    pub fn examples(self) -> (&'static [&'static str], &'static [&'static str]) {
        (self.row().takes, self.row().refuses)
    }

    /// Checks a JSON value.
    pub(super) fn check(self, value: &Value) -> Result<(), Rejected> {
        if self.is_optional() && value.is_null() || self.domain().contains(value) {
            return Ok(());
        }
        // Of a number that is written as text, the quotes are what is wrong.
        let text = match (value.as_str(), self.domain().is_textual()) {
            (Some(text), true) => text.to_owned(),
            _ => value.to_string(),
        };
        Err(self.reject(&text))
    }

    /// Parses the text of a flag.
    pub(super) fn parse(self, text: &str) -> Result<Value, Rejected> {
        let value = self.domain().parse(text);
        value
            .filter(|value| self.domain().contains(value))
            .ok_or_else(|| self.reject(text))
    }

    /// Parses the text of an environment variable, which spells the depth as the post does.
    pub(super) fn parse_environment(self, text: &str) -> Result<Value, Rejected> {
        if self != Self::Depth {
            return self.parse(text);
        }
        let depth = text
            .parse::<usize>()
            .ok()
            .and_then(|index| DEPTHS.get(index));
        depth
            .map(|depth| Value::from(*depth))
            .ok_or_else(|| Rejected {
                value: text.to_owned(),
                allowed: "0, 1, 2 or 3 (depth 28, 40, 70 or 100)".to_owned(),
                nearest: None,
            })
    }

    fn reject(self, text: &str) -> Rejected {
        let nearest = self.domain().nearest(text);
        Rejected {
            value: text.to_owned(),
            allowed: self.allowed(),
            nearest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::json;

    #[test]
    fn keys_are_the_fields_of_settings_in_their_order() {
        let fields: Vec<String> = Settings::default().to_map().keys().cloned().collect();
        assert_eq!(fields, Key::ALL.map(Key::name));
    }

    #[test]
    fn every_key_takes_its_edges_and_refuses_what_lies_beyond() {
        for key in Key::ALL {
            let (takes, refuses) = key.examples();
            for text in takes {
                let value = key
                    .parse(text)
                    .unwrap_or_else(|_| panic!("{} takes {text}", key.name()));
                assert!(key.check(&value).is_ok());
                // What the check lets through, the type must hold.
                Settings::from_values([(key, value)]);
            }
            for text in refuses {
                let rejected = key
                    .parse(text)
                    .map(|value| panic!("{} took {value}", key.name()))
                    .unwrap_err();
                let message = rejected.into_error(key, "a test".to_owned()).to_string();
                assert!(
                    message.contains(key.name()) && message.contains(&key.allowed()),
                    "{message}"
                );
            }
            // An edge that moves is seen here.
            if let Domain::Integer { low, high, step } = *key.domain() {
                let numbers = |texts: &[&str]| -> Vec<u128> {
                    texts.iter().filter_map(|text| text.parse().ok()).collect()
                };
                let (taken, refused) = (numbers(takes), numbers(refuses));
                let (low, high, step) = (u128::from(low), u128::from(high), u128::from(step));
                assert!(
                    taken.contains(&low) && taken.contains(&high),
                    "{}",
                    key.name()
                );
                assert!(refused.contains(&(high + step)), "{}", key.name());
                let is_below_shown = low == 0 || refused.iter().any(|number| *number < low);
                assert!(is_below_shown, "{}", key.name());
            }
        }
    }

    #[test]
    fn json_of_the_wrong_type_is_refused() {
        for (key, value) in [
            (Key::BatchSize, json!("25")),
            (Key::BatchSize, json!(25.5)),
            (Key::BatchSize, json!(null)),
            (Key::Width, json!("1")),
            (Key::Shortcuts, json!("true")),
            (Key::Device, json!(0)),
            (Key::RunDir, json!(["a"])),
            (Key::Preset, json!({})),
        ] {
            assert!(key.check(&value).is_err(), "{} took {value}", key.name());
        }
        assert!(Key::LimitTrain.check(&Value::Null).is_ok());
        assert!(
            Key::Width.check(&json!(1)).is_ok(),
            "an integer is a number"
        );
    }

    #[test]
    fn the_posts_depth_numbers_mean_depths() {
        for (text, depth) in [("0", 28), ("1", 40), ("2", 70), ("3", 100)] {
            assert_eq!(Key::Depth.parse_environment(text).unwrap(), json!(depth));
        }
        for text in ["4", "28", "-1", ""] {
            assert!(Key::Depth.parse_environment(text).is_err(), "{text}");
        }
    }
}
