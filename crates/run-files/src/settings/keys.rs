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
        let cases: [(Key, &[&str], &[&str]); 40] = [
            (Key::Preset, &["demo", "depth100"], &["depth50", "", "Demo"]),
            (Key::Depth, &["28", "100"], &["27", "0", "-28", "28.0", "x"]),
            (
                Key::Width,
                &["1e-9", "16"],
                &["0", "-1", "16.1", "nan", "inf", "1x"],
            ),
            (
                Key::LatentDim,
                &["1", "65536"],
                &["0", "65537", "-1", "1.5"],
            ),
            (
                Key::IntermediateDim,
                &["16", "65536"],
                &["0", "15", "1000", "65552"],
            ),
            (Key::BatchSize, &["2", "50000"], &["1", "0", "50001"]),
            (Key::Epochs, &["1", "1000000"], &["0", "1000001"]),
            (
                Key::LearningRate,
                &["1e-12", "1"],
                &["0", "-0.1", "1.01", "NaN"],
            ),
            (Key::Decay, &["0", "1"], &["-1e-9", "1.01"]),
            (Key::Activation, &["sigmoid", "gelu"], &["elu", ""]),
            (Key::Dropout, &["0", "0.999"], &["1", "-0.1"]),
            (
                Key::Seed,
                &["0", "18446744073709551615"],
                &["-1", "18446744073709551616"],
            ),
            (Key::DataDir, &["."], &[""]),
            (Key::RunDir, &["runs/1"], &[""]),
            (
                Key::Device,
                &["flex", "cuda:7", "cuda:0,cuda:1", "flex,flex"],
                &["cuda:", "gpu", "flex,cuda:0", "cuda:1,cuda:1"],
            ),
            (Key::Shortcuts, &["true", "false"], &["yes", ""]),
            (Key::Validation, &["held-out", "test"], &["heldout"]),
            (Key::Sampler, &["correct", "blog"], &["wrong"]),
            (Key::LimitTrain, &["2", "50000"], &["1", "50001"]),
            (Key::LimitTest, &["1", "10000"], &["0", "10001"]),
            (Key::Augment, &["none", "flip-crop"], &["crop"]),
            (Key::HalvingPatience, &["1"], &["0"]),
            (Key::MinimumLearningRate, &["0", "1"], &["-1e-6", "2"]),
            (Key::StoppingPatience, &["1"], &["0"]),
            (
                Key::StoppingMinimumImprovement,
                &["0", "1e9"],
                &["-0.1", "inf"],
            ),
            (Key::SkipGradientNorm, &["1.001", "1e9"], &["1", "0", "inf"]),
            (
                Key::CheckpointEvery,
                &["1", "500", "5m", "0.5m"],
                &["0", "-1", "m", "0m", "5s", "1.5", "", "infm"],
            ),
            (Key::OnDiskFull, &["stop", "pause"], &["wait"]),
            (Key::Precision, &["f32", "bf16"], &["f16", "F32"]),
            (Key::MicroBatchSize, &["2", "50000"], &["1", "0", "50001"]),
            (Key::Shards, &["1", "4", "1024"], &["0", "3", "2048"]),
            (Key::SyncNorm, &["true", "false"], &["yes", "1"]),
            (
                Key::GradientCheckpointing,
                &["true", "false"],
                &["yes", "1"],
            ),
            (Key::Schedule, &["plateau", "cosine"], &["linear"]),
            (Key::WarmupSteps, &["0", "1000000"], &["-1", "1000001"]),
            (
                Key::Likelihood,
                &["bernoulli", "logistic:global", "logistic-mixture:10"],
                &["logistic-mixture", "logistic-mixture:0", "Gaussian", ""],
            ),
            (Key::Beta, &["0", "1000000"], &["-1", "inf"]),
            (
                Key::KlWarmup,
                &["none", "linear:0", "linear:10:0.5", "cyclical:100:4"],
                &["linear", "linear:-1", "cyclical:4:5", ""],
            ),
            (Key::FreeBits, &["1e-9", "1000000"], &["0", "-1"]),
            (Key::Ema, &["1e-9", "0.9999"], &["0", "1", "-0.5"]),
        ];
        assert_eq!(cases.map(|(key, ..)| key), Key::ALL);
        for (key, allowed, refused) in cases {
            for text in allowed {
                let value = key
                    .parse(text)
                    .unwrap_or_else(|_| panic!("{} takes {text}", key.name()));
                assert!(key.check(&value).is_ok());
                // What the check lets through, the type must hold.
                Settings::from_values([(key, value)]);
            }
            for text in refused {
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
