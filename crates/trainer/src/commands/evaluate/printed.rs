//! What `evaluate` prints, for people and for programs.

use run_files::metrics::Terms;
use run_files::settings::{Sampler, Settings};
use run_files::wording::bits_per_dim as digits_of_bits;
use serde::Serialize;
use vae_core::Likelihood;

use crate::experiment::evaluate::bits_per_dim;
use crate::experiment::importance::Estimate;

/// The terms of a split by one set of weights, in nats an image.
#[derive(Serialize)]
pub(super) struct Score {
    terms: Terms,
    /// None where the terms add up to no bound.
    elbo: Option<f64>,
    bits_per_dim: Option<f64>,
}

impl Score {
    pub(super) fn new(settings: &Settings, terms: Terms) -> Self {
        Self {
            terms,
            elbo: (settings.sampler == Sampler::Correct).then_some(-terms.cross_entropy_plus_kl()),
            bits_per_dim: bits_per_dim(settings, &terms),
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.terms.loss.is_finite()
    }

    /// A line for each term, for people.
    pub(super) fn lines(&self, likelihood: Likelihood) -> String {
        let terms = &self.terms;
        let mut text = format!("loss           {:10.3}\n", terms.loss);
        text += &if likelihood == Likelihood::Bernoulli {
            format!(
                "cross-entropy  {:10.3}  ({:.3} above the pixels' entropy)\n",
                terms.cross_entropy, terms.excess
            )
        } else {
            format!(
                "-log p(x | z)  {:10.3}  ({likelihood})\n",
                terms.cross_entropy
            )
        };
        text += &format!("KL             {:10.3}\n", terms.kl);
        text += &format!("L2 penalties   {:10.3}\n", terms.l2);
        if let Some(bits) = self.bits_per_dim {
            text += &format!(
                "ELBO           {:10.3}  {} bits/dim\n",
                -terms.cross_entropy_plus_kl(),
                digits_of_bits(bits)
            );
        }
        text
    }
}

/// What is printed for programs.
#[derive(Serialize)]
pub(super) struct Evaluation<'a> {
    pub(super) split: String,
    pub(super) images: usize,
    pub(super) sampler: Sampler,
    pub(super) data_set: &'a str,
    pub(super) data_source: String,
    pub(super) data_hash: String,
    pub(super) likelihood: Likelihood,
    #[serde(flatten)]
    pub(super) scored: Score,
    pub(super) importance: Option<ImportanceScores>,
    /// Of the weights themselves, where the score is that of their average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) without_average: Option<Score>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<&'static str>,
}

#[derive(Serialize)]
pub(super) struct ImportanceScores {
    pub(super) samples: usize,
    pub(super) images: u64,
    pub(super) elbo: EstimatedBound,
    pub(super) bound: EstimatedBound,
}

/// A bound in nats, with its negative in bits per dimension where the likelihood allows them.
#[derive(Serialize)]
pub(super) struct EstimatedBound {
    nats: f64,
    standard_error: Option<f64>,
    bits_per_dim: Option<f64>,
    bits_per_dim_standard_error: Option<f64>,
}

impl EstimatedBound {
    pub(super) fn of(estimate: &Estimate, bits: impl Fn(f64) -> Option<f64>) -> Self {
        Self {
            nats: estimate.nats,
            standard_error: estimate.standard_error,
            bits_per_dim: bits(-estimate.nats),
            bits_per_dim_standard_error: estimate.standard_error.and_then(bits),
        }
    }
}

pub(super) fn estimate_line(
    name: &str,
    estimate: &Estimate,
    bits: impl Fn(f64) -> Option<f64>,
) -> String {
    let error = |error: Option<f64>, digits: usize| {
        error.map_or_else(String::new, |error| format!(" +- {error:.digits$}"))
    };
    let of_bits = bits(-estimate.nats).map_or_else(String::new, |value| {
        format!(
            "  {value:.4}{} bits/dim",
            error(estimate.standard_error.and_then(&bits), 4)
        )
    });
    format!(
        "{name:<14} {:10.3}{}{of_bits}\n",
        estimate.nats,
        error(estimate.standard_error, 3)
    )
}
