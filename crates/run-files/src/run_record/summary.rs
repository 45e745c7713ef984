//! `summary.json`: the results of a finished run. Nothing in it reads a clock, so equal runs write equal bytes.

use serde_json::{Value, json};

use super::LatentStatistics;
use crate::metrics::{EpochRow, FurtherNumbers, Terms};

/// One value for each split.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSplit<T> {
    /// Images learned from.
    pub train: T,
    /// Images that decide about learning rate and stopping.
    pub valid: T,
    /// Images for the final figures.
    pub test: T,
}

/// A count for each network of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerNetwork {
    /// Images to a posterior.
    pub encoder: u64,
    /// Latents to images.
    pub decoder: u64,
    /// Of the whole model.
    pub total: u64,
}

/// What a finished run has to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// The epoch whose weights were exported and scored.
    pub best: EpochRow,
    /// The last epoch.
    pub last: EpochRow,
    /// Of the exported weights on the test set.
    pub test: Terms,
    /// The same in bits per dimension, where the likelihood is one over grey levels.
    pub test_bits_per_dim: Option<f64>,
    /// The stopping rule ended the run.
    pub stopped_early: bool,
    /// Of the exported weights on the test set.
    pub latent: LatentStatistics,
    /// Parameters, running statistics of the norms among them.
    pub parameters: PerNetwork,
    /// Multiply-accumulates of one image, forward.
    pub multiply_accumulates_per_image: PerNetwork,
    /// Images of each split.
    pub images: PerSplit<u64>,
    /// Floor of the cross-entropy: the pixels' own entropy, in nats an image.
    pub floor: PerSplit<f64>,
}

impl RunSummary {
    /// As `summary.json`; nats an image, and `null` for what is not finite.
    pub fn to_json(&self) -> Value {
        let mut test = terms(&self.test);
        if let Some(bits) = self.test_bits_per_dim {
            test["bits_per_dim"] = bits.into();
        }
        json!({
            "weights_of_epoch": self.best.epoch,
            "stopped_early": self.stopped_early,
            "best": row(&self.best),
            "last": row(&self.last),
            "test": test,
            "latent": {
                "active_dimensions": self.latent.active(),
                "kl_per_dimension": self.latent.kl_per_dimension,
                "mean_variance": self.latent.mean_variance,
            },
            "parameters": per_network(&self.parameters),
            "multiply_accumulates_per_image": per_network(&self.multiply_accumulates_per_image),
            "images": {
                "train": self.images.train,
                "valid": self.images.valid,
                "test": self.images.test,
            },
            "floor": {
                "train": self.floor.train,
                "valid": self.floor.valid,
                "test": self.floor.test,
            },
        })
    }

    /// Reads what [`to_json`](Self::to_json) gives; `null` reads as NaN, and keys it does not know are passed over.
    pub(super) fn from_json(summary: &Value) -> Result<Self, String> {
        let summary = Entry {
            value: summary,
            name: String::new(),
        };
        let latent = summary.get("latent")?;
        let kl_per_dimension = latent.get("kl_per_dimension")?.numbers()?;
        let mean_variance = latent.get("mean_variance")?.numbers()?;
        if kl_per_dimension.len() != mean_variance.len() {
            return Err(format!(
                "`latent` has {} divergences and {} variances",
                kl_per_dimension.len(),
                mean_variance.len()
            ));
        }
        Ok(Self {
            best: summary.get("best")?.row()?,
            last: summary.get("last")?.row()?,
            test: summary.get("test")?.terms()?,
            test_bits_per_dim: summary.get("test")?.optional_number("bits_per_dim")?,
            stopped_early: summary.get("stopped_early")?.boolean()?,
            latent: LatentStatistics {
                kl_per_dimension,
                mean_variance,
            },
            parameters: summary.get("parameters")?.per_network()?,
            multiply_accumulates_per_image: summary
                .get("multiply_accumulates_per_image")?
                .per_network()?,
            images: summary.get("images")?.splits(|entry| entry.count())?,
            floor: summary.get("floor")?.splits(|entry| entry.number())?,
        })
    }
}

/// Nats an image; what is not finite becomes `null`.
pub fn terms(terms: &Terms) -> Value {
    json!({
        "loss": terms.loss,
        "cross_entropy": terms.cross_entropy,
        "excess": terms.excess,
        "kl": terms.kl,
        "l2": terms.l2,
    })
}

fn row(row: &EpochRow) -> Value {
    let mut object = json!({
        "epoch": row.epoch,
        "learning_rate": row.learning_rate,
        "last_learning_rate": row.last_learning_rate,
        "skipped_steps": row.skipped_steps,
        "train": terms(&row.train),
        "valid": terms(&row.valid),
    });
    for (key, number) in row.further.present() {
        object[key] = number.into();
    }
    object
}

fn per_network(counts: &PerNetwork) -> Value {
    json!({ "encoder": counts.encoder, "decoder": counts.decoder, "total": counts.total })
}

/// A value with its path, for messages.
struct Entry<'a> {
    value: &'a Value,
    name: String,
}

impl Entry<'_> {
    fn get(&self, key: &str) -> Result<Entry<'_>, String> {
        let name = if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        };
        match self.value.get(key) {
            Some(value) => Ok(Entry { value, name }),
            None => Err(format!("`{name}` is missing")),
        }
    }

    fn typed<T>(&self, value: Option<T>, kind: &str) -> Result<T, String> {
        value.ok_or_else(|| format!("`{}` is no {kind}", self.name))
    }

    fn number(&self) -> Result<f64, String> {
        if self.value.is_null() {
            return Ok(f64::NAN);
        }
        self.typed(self.value.as_f64(), "number")
    }

    fn count(&self) -> Result<u64, String> {
        self.typed(self.value.as_u64(), "number from 0")
    }

    fn boolean(&self) -> Result<bool, String> {
        self.typed(self.value.as_bool(), "true or false")
    }

    fn numbers(&self) -> Result<Vec<f64>, String> {
        let values = self.typed(self.value.as_array(), "list")?;
        let entry = |value| Entry {
            value,
            name: self.name.clone(),
        };
        values.iter().map(|value| entry(value).number()).collect()
    }

    fn terms(&self) -> Result<Terms, String> {
        Ok(Terms {
            loss: self.get("loss")?.number()?,
            cross_entropy: self.get("cross_entropy")?.number()?,
            excess: self.get("excess")?.number()?,
            kl: self.get("kl")?.number()?,
            l2: self.get("l2")?.number()?,
        })
    }

    fn row(&self) -> Result<EpochRow, String> {
        let epoch = self.get("epoch")?;
        let number = u32::try_from(epoch.count()?).ok();
        let skipped = self.get("skipped_steps")?;
        Ok(EpochRow {
            epoch: epoch.typed(number, "epoch")?,
            train: self.get("train")?.terms()?,
            valid: self.get("valid")?.terms()?,
            learning_rate: self.get("learning_rate")?.number()?,
            // Summaries of older programs have one rate.
            last_learning_rate: self
                .get("last_learning_rate")
                .or_else(|_| self.get("learning_rate"))?
                .number()?,
            skipped_steps: skipped.typed(u32::try_from(skipped.count()?).ok(), "count of steps")?,
            further: FurtherNumbers::from_values(|key| self.optional_number(key))?,
        })
    }

    /// A number that is not in every summary.
    fn optional_number(&self, key: &'static str) -> Result<Option<f64>, String> {
        if self.value.get(key).is_none() {
            return Ok(None);
        }
        self.get(key)?.number().map(Some)
    }

    fn per_network(&self) -> Result<PerNetwork, String> {
        Ok(PerNetwork {
            encoder: self.get("encoder")?.count()?,
            decoder: self.get("decoder")?.count()?,
            total: self.get("total")?.count()?,
        })
    }

    fn splits<T>(
        &self,
        read: impl Fn(&Entry<'_>) -> Result<T, String>,
    ) -> Result<PerSplit<T>, String> {
        Ok(PerSplit {
            train: read(&self.get("train")?)?,
            valid: read(&self.get("valid")?)?,
            test: read(&self.get("test")?)?,
        })
    }
}

#[cfg(test)]
mod tests;
