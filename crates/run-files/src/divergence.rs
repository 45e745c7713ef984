//! The report of a training that stopped because its steps were not finite.

use serde::Serialize;

use crate::metrics::BatchLoss;
use crate::step_guard::StepLoss;

/// File of the report, in the run folder.
pub const DIVERGENCE: &str = "divergence.json";

/// What made a step not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NonFinite {
    /// The term of the loss, or "gradient".
    pub term: &'static str,
    /// NaN, inf or -inf: JSON has no numbers for them.
    pub value: String,
    /// The first parameter with a gradient that is not finite; none where the loss itself is not finite for another
    /// reason than the weights.
    pub parameter: Option<String>,
    /// How many parameters have such a gradient.
    pub parameters: usize,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.term, self.value)?;
        match &self.parameter {
            Some(parameter) => write!(formatter, " at {parameter}"),
            None => Ok(()),
        }
    }
}

/// What is known when training stops.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence<'a> {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Step since the run began, from 0.
    pub step: u64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// What was not finite at this step.
    #[serde(flatten)]
    pub cause: NonFinite,
    /// The parameter or running statistic of the largest magnitude, which tells where weights grew.
    pub largest_weight: Option<LargestWeight>,
    /// Skipped steps in a row, this one among them.
    pub skipped_in_a_row: u32,
    /// Skipped steps since the run began.
    pub skipped: u64,
    /// The last losses, oldest first, in nats an image.
    pub last_losses: Vec<&'a StepLoss>,
}

/// The value of the largest magnitude in a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LargestWeight {
    /// Name of its tensor.
    pub name: String,
    /// The magnitude.
    pub magnitude: f32,
}

/// The first term of a loss that is not finite.
pub fn first_non_finite(loss: BatchLoss) -> Option<NonFinite> {
    loss.named()
        .into_iter()
        .find(|(_, value)| !value.is_finite())
        .map(|(term, value)| NonFinite {
            term,
            value: value.to_string(),
            parameter: None,
            parameters: 0,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_term_that_is_not_finite_is_named() {
        let loss = |kl, l2| BatchLoss {
            cross_entropy: 1.0,
            kl,
            l2,
        };
        assert_eq!(first_non_finite(loss(2.0, 3.0)), None);
        let cause = first_non_finite(loss(f64::NEG_INFINITY, f64::NAN)).expect("found");
        assert_eq!(cause.to_string(), "KL divergence -inf");
    }
}
