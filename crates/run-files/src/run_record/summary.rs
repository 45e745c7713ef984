//! `summary.json`: the results of a finished run. Nothing in it reads a clock, so equal runs write equal bytes.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::LatentStatistics;
use crate::metrics::{EpochRow, Terms};
use crate::nullable;

/// One value for each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerSplit<T> {
    /// Images learned from.
    pub train: T,
    /// Images that decide about learning rate and stopping.
    pub valid: T,
    /// Images for the final figures.
    pub test: T,
}

/// A count for each network of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerNetwork {
    /// Images to a posterior.
    pub encoder: u64,
    /// Latents to images.
    pub decoder: u64,
    /// Of the whole model.
    pub total: u64,
}

/// The keys of `summary.json`, in their order.
#[derive(Serialize)]
struct SummaryFile<'a> {
    weights_of_epoch: u32,
    stopped_early: bool,
    best: &'a EpochRow,
    last: &'a EpochRow,
    test: TestScores<'a>,
    latent: LatentScores<'a>,
    parameters: PerNetwork,
    multiply_accumulates_per_image: PerNetwork,
    images: PerSplit<u64>,
    floor: PerSplit<f64>,
}

#[derive(Serialize)]
struct TestScores<'a> {
    #[serde(flatten)]
    terms: &'a Terms,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_dim: Option<f64>,
}

#[derive(Serialize)]
struct LatentScores<'a> {
    active_dimensions: usize,
    kl_per_dimension: &'a [f64],
    mean_variance: &'a [f64],
}

/// What a finished run has to tell.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RunSummary {
    /// The epoch whose weights were exported and scored.
    pub best: EpochRow,
    /// The last epoch.
    pub last: EpochRow,
    /// Of the exported weights on the test set.
    pub test: Terms,
    /// The negative ELBO in bits per dimension, where the settings have a bound.
    #[serde(skip)]
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
    #[serde(deserialize_with = "nullable_splits")]
    pub floor: PerSplit<f64>,
}

impl RunSummary {
    /// As `summary.json`; nats an image, and `null` for what is not finite.
    pub fn to_json(&self) -> Value {
        let LatentStatistics {
            kl_per_dimension,
            mean_variance,
        } = &self.latent;
        let file = SummaryFile {
            weights_of_epoch: self.best.epoch,
            stopped_early: self.stopped_early,
            best: &self.best,
            last: &self.last,
            test: TestScores {
                terms: &self.test,
                bits_per_dim: self.test_bits_per_dim,
            },
            latent: LatentScores {
                active_dimensions: self.latent.active(),
                kl_per_dimension,
                mean_variance,
            },
            parameters: self.parameters,
            multiply_accumulates_per_image: self.multiply_accumulates_per_image,
            images: self.images,
            floor: self.floor,
        };
        serde_json::to_value(file).expect("a summary has names, numbers and lists only")
    }

    /// Reads what [`to_json`](Self::to_json) gives; `null` reads as NaN, and keys it does not know are passed over.
    pub(super) fn from_json(value: &Value) -> Result<Self, String> {
        let mut summary: Self =
            serde_path_to_error::deserialize(value).map_err(|error| error.to_string())?;
        let LatentStatistics {
            kl_per_dimension,
            mean_variance,
        } = &summary.latent;
        if kl_per_dimension.len() != mean_variance.len() {
            return Err(format!(
                "`latent` has {} divergences and {} variances",
                kl_per_dimension.len(),
                mean_variance.len()
            ));
        }
        if let Some(bits) = value["test"].get("bits_per_dim") {
            summary.test_bits_per_dim = Some(
                nullable::number(bits).map_err(|error| format!("test.bits_per_dim: {error}"))?,
            );
        }
        for (key, row) in [("best", &mut summary.best), ("last", &mut summary.last)] {
            // Summaries of older programs have one rate.
            if value[key].get("last_learning_rate").is_none() {
                row.last_learning_rate = row.learning_rate;
            }
        }
        Ok(summary)
    }
}

fn nullable_splits<'de, D: Deserializer<'de>>(from: D) -> Result<PerSplit<f64>, D::Error> {
    let PerSplit { train, valid, test } = PerSplit::<Option<f64>>::deserialize(from)?;
    let [train, valid, test] = [train, valid, test].map(|number| number.unwrap_or(f64::NAN));
    Ok(PerSplit { train, valid, test })
}

#[cfg(test)]
mod tests;
