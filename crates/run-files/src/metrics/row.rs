//! The numbers of an epoch, and their forms as a line of each metrics file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::optional_metrics::OptionalMetrics;
use crate::nullable;

/// The loss of a split and its terms: means over the images, in nats an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// What is minimised: cross-entropy + KL + penalties.
    #[serde(deserialize_with = "nullable::number")]
    pub loss: f64,
    /// Bernoulli cross-entropy summed over the pixels.
    #[serde(deserialize_with = "nullable::number")]
    pub cross_entropy: f64,
    /// Cross-entropy minus the pixel-entropy floor of the split.
    #[serde(deserialize_with = "nullable::number")]
    pub excess: f64,
    /// KL divergence of the posterior from the prior.
    #[serde(deserialize_with = "nullable::number")]
    pub kl: f64,
    /// The two penalties on the heads of the encoder.
    #[serde(deserialize_with = "nullable::number")]
    pub l2: f64,
}

impl Terms {
    /// Cross-entropy and KL divergence without penalties: the negative ELBO, where the settings have
    /// [one](crate::settings::Settings::bounds_the_likelihood).
    pub fn cross_entropy_plus_kl(&self) -> f64 {
        self.cross_entropy + self.kl
    }
}

/// The row of one epoch; serde has it as `summary.json` does, [`to_json`](Self::to_json) as `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Mean learning rate of the epoch's steps.
    #[serde(deserialize_with = "nullable::number")]
    pub learning_rate: f64,
    /// Learning rate of the epoch's last step; in rows of older programs the only one they had.
    #[serde(default, deserialize_with = "nullable::number")]
    pub last_learning_rate: f64,
    /// Steps of the epoch that were skipped; their images are not in `train`.
    pub skipped_steps: u32,
    /// Over the training images, while the parameters moved.
    pub train: Terms,
    /// Over the validation images, after the epoch.
    pub valid: Terms,
    /// What the run's settings ask for besides.
    #[serde(flatten)]
    pub optional: OptionalMetrics,
}

impl EpochRow {
    /// Keys of the numbers after `epoch` and before `skipped_steps`, in the order of the columns.
    pub const KEYS: [&'static str; 12] = [
        "train/loss",
        "train/cross_entropy",
        "train/excess",
        "train/kl",
        "train/l2",
        "valid/loss",
        "valid/cross_entropy",
        "valid/excess",
        "valid/kl",
        "valid/l2",
        "learning_rate",
        "last_learning_rate",
    ];

    /// The numbers of [`Self::KEYS`], in their order.
    pub fn numbers(&self) -> [f64; 12] {
        let Self { train, valid, .. } = self;
        [
            train.loss,
            train.cross_entropy,
            train.excess,
            train.kl,
            train.l2,
            valid.loss,
            valid.cross_entropy,
            valid.excess,
            valid.kl,
            valid.l2,
            self.learning_rate,
            self.last_learning_rate,
        ]
    }

    /// The row as a JSON object with `epoch`, [`Self::KEYS`], `skipped_steps` and the optional metrics that there are; a number
    /// that is not finite becomes `null`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("epoch".to_owned(), self.epoch.into());
        for (key, number) in Self::KEYS.into_iter().zip(self.numbers()) {
            object.insert(key.to_owned(), number.into());
        }
        object.insert("skipped_steps".to_owned(), self.skipped_steps.into());
        for (key, number) in self.optional.present() {
            object.insert(key.to_owned(), number.into());
        }
        object
    }

    pub(super) fn from_json(object: &Map<String, Value>) -> Result<Self, String> {
        let integer = |key: &str| {
            let value = object.get(key).and_then(Value::as_u64);
            value
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| format!("`{key}` is no number from 0"))
        };
        let number = |key: &str| match object.get(key) {
            Some(Value::Null) => Ok(f64::NAN),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| format!("`{key}` is no number")),
            None => Err(format!("`{key}` is missing")),
        };
        let terms = |split: &str| {
            Ok::<_, String>(Terms {
                loss: number(&format!("{split}/loss"))?,
                cross_entropy: number(&format!("{split}/cross_entropy"))?,
                excess: number(&format!("{split}/excess"))?,
                kl: number(&format!("{split}/kl"))?,
                l2: number(&format!("{split}/l2"))?,
            })
        };
        Ok(Self {
            epoch: integer("epoch")?,
            train: terms("train")?,
            valid: terms("valid")?,
            learning_rate: number("learning_rate")?,
            // Rows of older programs have one rate.
            last_learning_rate: number(if object.contains_key("last_learning_rate") {
                "last_learning_rate"
            } else {
                "learning_rate"
            })?,
            skipped_steps: integer("skipped_steps")?,
            optional: OptionalMetrics::from_values(|key| {
                object.contains_key(key).then(|| number(key)).transpose()
            })?,
        })
    }

    pub(super) fn jsonl_line(&self) -> String {
        format!("{}\n", Value::Object(self.to_json()))
    }

    /// The row in the columns of a file, which an older program may have begun; a column that this one does not know is NaN.
    pub(super) fn csv_line(&self, columns: &[String]) -> String {
        let numbers = self.numbers();
        let cell = |column: &String| match column.as_str() {
            "epoch" => self.epoch.to_string(),
            "skipped_steps" => self.skipped_steps.to_string(),
            name => {
                let position = Self::KEYS.iter().position(|key| *key == name);
                let optional = || self.optional.present().find(|(key, _)| *key == name);
                let number = match position {
                    Some(position) => numbers[position],
                    None => optional().map_or(f64::NAN, |(_, number)| number),
                };
                // `{:?}` is the standard library's shortest form that reads back to the same bits.
                format!("{number:?}")
            }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        format!("{}\n", cells.join(","))
    }

    /// Whether a cell of `metrics.csv` holds this row's number of that column; of a column that this program does not know, it does.
    pub fn agrees(&self, column: &str, cell: &str) -> bool {
        let integer = |expected: u32| cell.parse() == Ok(expected);
        match column {
            "epoch" => integer(self.epoch),
            "skipped_steps" => integer(self.skipped_steps),
            name => {
                let position = Self::KEYS.iter().position(|key| *key == name);
                let optional = || self.optional.present().find(|(key, _)| *key == name);
                let expected = position
                    .map(|position| self.numbers()[position])
                    .or_else(|| optional().map(|(_, number)| number));
                expected.is_none_or(|expected| {
                    // JSON has one word for all that is not finite.
                    cell.parse::<f64>().is_ok_and(|found| {
                        found == expected || !found.is_finite() && !expected.is_finite()
                    })
                })
            }
        }
    }

    /// The columns of a new `metrics.csv` with these optional metrics.
    pub(super) fn columns(optional: &[&str]) -> Vec<String> {
        let names = std::iter::once("epoch").chain(Self::KEYS);
        let names = names
            .chain(["skipped_steps"])
            .chain(optional.iter().copied());
        names.map(str::to_owned).collect()
    }
}
