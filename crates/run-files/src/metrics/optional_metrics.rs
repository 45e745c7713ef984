//! Numbers of an epoch that a run has only where its settings ask for them, so that the files of other runs stay as they are.

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::nullable;

/// Optional metrics of an epoch; each is there in every row of a run or in none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OptionalMetrics {
    /// Negative ELBO over the training images in bits per dimension, where the settings have a bound:
    /// [`bounds_the_likelihood`](crate::settings::Settings::bounds_the_likelihood).
    pub train_bits_per_dim: Option<f64>,
    /// The same over the validation images.
    pub valid_bits_per_dim: Option<f64>,
    /// What was minimised, nats an image, where it is not the loss: the KL divergence weighted, with free bits.
    pub train_objective: Option<f64>,
    /// Weight of the KL divergence in the epoch's last step.
    pub kl_weight: Option<f64>,
    /// The bound on the log-likelihood of the validation images, nats an image: without weights, free bits and penalties;
    /// where the settings have one.
    pub valid_elbo: Option<f64>,
    /// Loss of the validation images with the weights themselves, where scores are those of their moving average.
    pub valid_loss_without_average: Option<f64>,
}

impl OptionalMetrics {
    /// The keys in the files, in the order of the columns.
    pub const KEYS: [&'static str; 6] = [
        "train/bits_per_dim",
        "valid/bits_per_dim",
        "train/objective",
        "kl_weight",
        "valid/elbo",
        "valid/loss_without_average",
    ];

    fn numbers(&self) -> [Option<f64>; 6] {
        [
            self.train_bits_per_dim,
            self.valid_bits_per_dim,
            self.train_objective,
            self.kl_weight,
            self.valid_elbo,
            self.valid_loss_without_average,
        ]
    }

    /// Leaves out what only a bound on the likelihood has.
    pub(crate) fn forget_bounds(&mut self) {
        (self.train_bits_per_dim, self.valid_bits_per_dim) = (None, None);
        self.valid_elbo = None;
    }

    /// Those that there are, in the order of [`KEYS`](Self::KEYS).
    pub fn present(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let all = Self::KEYS.into_iter().zip(self.numbers());
        all.filter_map(|(key, number)| number.map(|number| (key, number)))
    }

    /// The numbers that `value` finds by their keys.
    ///
    /// # Errors
    /// What `value` reports.
    pub fn from_values<E>(
        mut value: impl FnMut(&'static str) -> Result<Option<f64>, E>,
    ) -> Result<Self, E> {
        let [train_bits, valid_bits, objective, weight, elbo, without] = Self::KEYS;
        Ok(Self {
            train_bits_per_dim: value(train_bits)?,
            valid_bits_per_dim: value(valid_bits)?,
            train_objective: value(objective)?,
            kl_weight: value(weight)?,
            valid_elbo: value(elbo)?,
            valid_loss_without_average: value(without)?,
        })
    }
}

impl Serialize for OptionalMetrics {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.present())
    }
}

impl<'de> Deserialize<'de> for OptionalMetrics {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let values = HashMap::<String, Value>::deserialize(from)?;
        Self::from_values(|key| {
            let number = values.get(key).map(nullable::number).transpose();
            number.map_err(|error| D::Error::custom(format!("`{key}`: {error}")))
        })
    }
}
