//! What a training run is made of: its settings, where each value came from, and how two sets of them differ.
//!
//! Values come from flags, over environment variables, over a `--config` file, over a preset, over the defaults; see
//! [`resolve`]. A run writes the complete [`Settings`] to its `config.json`.

mod config_file;
mod differences;
mod domain;
mod error;
#[cfg(test)]
mod flag_tests;
mod keys;
mod options;
mod presets;
mod print_config;
mod resolve;
mod row;
mod rows;
mod source;
mod values;

pub use differences::{Difference, differences};
pub use error::SettingsError;
pub use options::{EMBEDDED_SAMPLE, EmbeddedData, Resume, expand_home};
pub use resolve::{Provenance, Resolved, resolve};
pub use row::Change;
pub use rows::{Key, Settings, TrainFlags};
pub use source::Source;
pub use values::*;

use std::path::Path;

use serde_json::{Map, Value};
use vae_measures::KlSchedule;

use crate::atomic_file::write_atomically;

/// Channels of the four stages (the bottleneck width `m`) at width 1.
const BASE_STAGE_WIDTHS: [f64; 4] = [64.0, 128.0, 256.0, 512.0];

/// Features of the two dense layers at width 1.
const BASE_INTERMEDIATE_DIM: f64 = 1024.0;

/// The decoder folds the intermediate features onto 4 x 4 positions.
const POSITIONS: usize = 16;

impl Settings {
    /// Bottleneck widths of the four stages: 64, 128, 256, 512 times `width`, rounded, at least 1.
    pub fn stage_widths(&self) -> [usize; 4] {
        BASE_STAGE_WIDTHS.map(|channels| ((channels * self.width).round() as usize).max(1))
    }

    /// What the run trains on, where it is inside the program: by its name, or the sample of preset `demo` without a data folder.
    pub fn embedded_data(&self) -> Option<EmbeddedData> {
        match &self.data_dir {
            Some(folder) => EmbeddedData::of_data_dir(folder),
            None => (self.preset == Some(Preset::Demo)).then_some(EmbeddedData::Sample),
        }
    }

    /// Checks every value against its allowed range, for settings made in code.
    ///
    /// # Errors
    /// [`SettingsError::InvalidValue`] or [`SettingsError::LearningRateBelowMinimum`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (key, value) in self.values() {
            key.check(&value)
                .map_err(|rejected| rejected.into_error(key, "set in code".to_owned()))?;
        }
        self.check_learning_rates()
    }

    /// Whether the weight of the KL divergence in what is minimised is 1 for all of it from the first step on.
    pub fn minimises_the_loss(&self) -> bool {
        self.beta == 1.0 && self.kl_warmup == KlSchedule::None && self.free_bits.is_none()
    }

    /// Whether cross-entropy plus KL divergence bounds the likelihood of the images: the likelihood is one over grey levels, and latents are
    /// drawn from the posterior whose divergence is scored. Only then are there an ELBO and bits per dimension.
    pub fn bounds_the_likelihood(&self) -> bool {
        self.likelihood.is_over_levels() && self.sampler == Sampler::Correct
    }

    /// Whether rows have an ELBO beside the loss: where the loss tells it in other units, or something else is minimised, and the sampler draws from
    /// the posterior whose divergence is scored.
    pub fn tells_the_elbo(&self) -> bool {
        let is_told = self.likelihood.is_over_levels() || !self.minimises_the_loss();
        is_told && self.sampler == Sampler::Correct
    }

    /// Why there is no ELBO of a likelihood over grey levels, where the sampler is the reason.
    pub fn why_no_bound(&self) -> Option<&'static str> {
        (self.likelihood.is_over_levels() && self.sampler == Sampler::Blog).then_some(
            "The post's sampler draws with the deviation exp(v), where the KL divergence is of exp(v / 2): cross-entropy plus KL bounds \
             nothing, so there are no ELBO and no bits/dim. `cargo xtask evaluate --importance-samples K` weighs what is drawn, and bounds \
             the likelihood.",
        )
    }

    /// The settings as pretty JSON with every key, but the newest ones at their defaults, in the order of the fields; ends
    /// with a newline.
    pub fn to_json(&self) -> String {
        let defaults = Self::default().to_map();
        let mut map = self.to_map();
        map.retain(|name, value| {
            let is_left_out = Key::from_name(name).is_some_and(Key::is_left_out_at_default);
            !is_left_out || defaults[name] != *value
        });
        let mut text =
            serde_json::to_string_pretty(&map).expect("a map of plain values serialises");
        text.push('\n');
        text
    }

    /// Writes `config.json`, atomically.
    ///
    /// # Errors
    /// [`SettingsError::Unwritable`].
    pub fn write(&self, path: &Path) -> Result<(), SettingsError> {
        write_atomically(path, self.to_json().as_bytes()).map_err(|cause| {
            SettingsError::Unwritable {
                path: path.to_owned(),
                cause,
            }
        })
    }

    /// Reads a complete `config.json`; unlike a `--config` file it must name every key but those that the first runs did
    /// not have.
    ///
    /// # Errors
    /// Unreadable or malformed file, unknown or missing key, value out of its range.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::complete(path, config_file::read(path)?)
    }

    /// Every key with its value, as a checkpoint keeps them.
    pub fn recorded(&self) -> Map<String, Value> {
        self.to_map()
    }

    /// The settings of a record that [`recorded`](Self::recorded) made; `path` stands for it in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_recorded(
        path: &Path,
        recorded: &Map<String, Value>,
    ) -> Result<Self, SettingsError> {
        let text =
            serde_json::to_string_pretty(recorded).expect("a map of plain values serialises");
        Self::from_text(path, &text)
    }

    /// The settings that [`to_json`](Self::to_json) wrote; `path` stands for where they are in errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_text(path: &Path, json: &str) -> Result<Self, SettingsError> {
        Self::complete(path, config_file::parse(path, json)?)
    }

    fn complete(path: &Path, entries: Vec<config_file::Entry>) -> Result<Self, SettingsError> {
        if let Some(missing) = Key::ALL
            .iter()
            .find(|key| !key.is_recent() && entries.iter().all(|entry| entry.key != **key))
        {
            return Err(SettingsError::MissingKey {
                path: path.to_owned(),
                key: missing.name(),
            });
        }
        let settings = Self::from_values(entries.into_iter().map(|entry| (entry.key, entry.value)));
        settings.check_learning_rates()?;
        Ok(settings)
    }

    /// Halving may not raise the learning rate, so the start must not lie below the minimum.
    fn check_learning_rates(&self) -> Result<(), SettingsError> {
        if self.learning_rate < self.minimum_learning_rate {
            return Err(SettingsError::LearningRateBelowMinimum {
                learning_rate: self.learning_rate,
                minimum: self.minimum_learning_rate,
            });
        }
        Ok(())
    }

    /// The settings as one JSON object, keys in the order of the fields.
    fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // Paths come from UTF-8 text everywhere in this module, the only case serde could refuse.
            other => unreachable!("settings serialise to an object, not {other:?}"),
        }
    }

    /// These settings with another value of one key, the first of the key's examples that is not the present one.
    ///
    /// # Panics
    /// If all examples are the present value.
    #[doc(hidden)]
    pub fn with_another(&self, key: Key) -> Self {
        let mut map = self.to_map();
        let (takes, _) = key.examples();
        let other = takes
            .iter()
            .filter_map(|text| key.parse(text).ok())
            .find(|value| {
                let with_it = Self::from_values([(key, value.clone())]).to_map();
                with_it[key.name()] != map[key.name()]
            });
        let other = other.expect("one of the examples is not the present value");
        map.insert(key.name().to_owned(), other);
        serde_json::from_value(Value::Object(map)).expect("the other values were there before")
    }

    /// Every key with its value.
    fn values(&self) -> Vec<(Key, Value)> {
        let map = self.to_map();
        Key::ALL
            .iter()
            .map(|key| (*key, map[key.name()].clone()))
            .collect()
    }

    /// Settings from checked values; a key not given keeps its default.
    fn from_values(values: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let mut map = Self::default().to_map();
        for (key, value) in values {
            map.insert(key.name().to_owned(), value);
        }
        serde_json::from_value(Value::Object(map)).expect("every value was checked against its key")
    }
}

/// The intermediate dimension of a width: 1024 times `width` to the nearest multiple of 16, at least 16.
fn intermediate_dim_of(width: f64) -> usize {
    let multiples = (BASE_INTERMEDIATE_DIM * width / POSITIONS as f64).round() as usize;
    multiples.max(1) * POSITIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_measures::{Likelihood, Scale};

    #[test]
    fn defaults_are_the_posts_values() {
        let settings = Settings::default();
        assert_eq!(
            settings.to_json().replace(['\n', ' '], ""),
            concat!(
                r#"{"preset":null,"depth":100,"width":1.0,"latent_dim":256,"intermediate_dim":1024,"batch_size":25,"#,
                r#""epochs":1000,"learning_rate":0.001,"decay":0.0,"activation":"sigmoid","dropout":0.0,"seed":1,"#,
                r#""data_dir":null,"run_dir":null,"device":"flex","shortcuts":true,"validation":"held-out","#,
                r#""sampler":"correct","limit_train":null,"limit_test":null,"augment":"none","halving_patience":25,"#,
                r#""minimum_learning_rate":1e-6,"stopping_patience":50,"stopping_minimum_improvement":0.1,"#,
                r#""skip_gradient_norm":null,"checkpoint_every":null,"on_disk_full":"stop","precision":"f32","#,
                r#""micro_batch_size":null,"gradient_checkpointing":false,"schedule":"plateau","warmup_steps":0}"#,
            )
        );
        // The defaults of the others stand in the help of their flags, which a test compares with them.
        for key in Key::ALL {
            let is_told = key.flag().is_some() || !key.is_left_out_at_default();
            assert!(is_told, "nothing pins the default of {}", key.name());
        }
        settings.validate().unwrap();
    }

    #[test]
    fn widths_round_and_never_vanish() {
        let stages = |width| {
            Settings {
                width,
                ..Settings::default()
            }
            .stage_widths()
        };
        assert_eq!(stages(1.0), [64, 128, 256, 512]);
        assert_eq!(stages(0.125), [8, 16, 32, 64]);
        assert_eq!(stages(0.05), [3, 6, 13, 26]);
        assert_eq!(stages(0.001), [1, 1, 1, 1]);
        let intermediate: Vec<usize> = [1.0, 0.125, 0.0625, 0.05, 0.7, 0.001, 2.0]
            .map(intermediate_dim_of)
            .into();
        assert_eq!(intermediate, [1024, 128, 64, 48, 720, 16, 2048]);
    }

    #[test]
    fn config_json_round_trips_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let settings = Settings {
            preset: Some(Preset::Demo),
            width: 0.1 + 0.2,
            learning_rate: 1.0 / 3.0,
            seed: u64::MAX,
            data_dir: Some("bilder/größe 32".into()),
            run_dir: Some("runs/a\"b".into()),
            device: "cuda:3,cuda:0".parse().unwrap(),
            validation: Validation::Test,
            sampler: Sampler::Blog,
            augment: Augment::FlipCrop,
            limit_train: Some(100),
            shortcuts: false,
            skip_gradient_norm: Some(5.5),
            checkpoint_every: Some(CheckpointInterval::Minutes(1.5)),
            on_disk_full: OnDiskFull::Pause,
            likelihood: Likelihood::Logistic {
                scale: Scale::Global,
            },
            kl_warmup: KlSchedule::Linear {
                steps: 100,
                floor: 0.0,
            },
            free_bits: Some(0.25),
            ema: Some(0.999),
            ..Settings::default()
        };
        settings.write(&path).unwrap();
        let read = Settings::read(&path).unwrap();
        assert_eq!(read, settings);
        assert_eq!(read.to_json(), settings.to_json());
    }

    #[test]
    fn an_incomplete_config_json_names_the_missing_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(
            &path,
            Settings::default()
                .to_json()
                .replace("\"dropout\": 0.0,", ""),
        )
        .unwrap();
        let message = Settings::read(&path).unwrap_err().to_string();
        assert!(
            message.contains("dropout") && message.contains("config.json"),
            "{message}"
        );
    }

    #[test]
    fn runs_recorded_before_a_key_did_what_its_default_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let mut recorded = Settings::default().to_map();
        recorded.retain(|name, _| !Key::from_name(name).is_some_and(Key::is_recent));
        assert!(recorded.len() < Key::ALL.len());
        std::fs::write(&path, serde_json::to_vec(&recorded).unwrap()).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
    }

    #[test]
    fn only_the_demo_without_a_data_folder_uses_the_sample() {
        let demo = Settings {
            preset: Some(Preset::Demo),
            ..Settings::default()
        };
        assert_eq!(demo.embedded_data(), Some(EmbeddedData::Sample));
        let in_folder = Settings {
            data_dir: Some("data".into()),
            ..demo
        };
        assert_eq!(in_folder.embedded_data(), None);
        let other_preset = Settings {
            preset: Some(Preset::Depth28),
            ..Settings::default()
        };
        assert_eq!(other_preset.embedded_data(), None);
        assert_eq!(Settings::default().embedded_data(), None);
        let named = Settings {
            data_dir: Some(EMBEDDED_SAMPLE.into()),
            ..Settings::default()
        };
        assert_eq!(named.embedded_data(), Some(EmbeddedData::Sample));
    }

    #[test]
    fn a_learning_rate_below_the_minimum_is_refused() {
        let settings = Settings {
            learning_rate: 1e-7,
            ..Settings::default()
        };
        let message = settings.validate().unwrap_err().to_string();
        assert!(message.contains("minimum_learning_rate"), "{message}");
    }
}
