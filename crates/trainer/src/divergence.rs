//! The report of a training that stopped because its steps were not finite.

use serde::Serialize;

use crate::step_guard::StepLoss;

/// File of the report, in the run folder.
pub(crate) const DIVERGENCE: &str = "divergence.json";

/// What made a step not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NonFinite {
    /// The term of the loss, or "gradient".
    pub(crate) term: &'static str,
    /// NaN, inf or -inf: JSON has no numbers for them.
    pub(crate) value: String,
    /// The first parameter with a gradient that is not finite; none where the loss itself is not finite for another
    /// reason than the weights.
    pub(crate) parameter: Option<String>,
    /// How many parameters have such a gradient.
    pub(crate) parameters: usize,
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
pub(crate) struct Divergence<'a> {
    /// Epoch, from 1.
    pub(crate) epoch: u32,
    /// Step since the run began, from 0.
    pub(crate) step: u64,
    /// Learning rate of the step.
    pub(crate) learning_rate: f64,
    /// What was not finite at this step.
    #[serde(flatten)]
    pub(crate) cause: NonFinite,
    /// The parameter or running statistic of the largest magnitude, which tells where weights grew.
    pub(crate) largest_weight: Option<LargestWeight>,
    /// Skipped steps in a row, this one among them.
    pub(crate) skipped_in_a_row: u32,
    /// Skipped steps since the run began.
    pub(crate) skipped: u64,
    /// The last losses, oldest first, in nats an image.
    pub(crate) last_losses: Vec<&'a StepLoss>,
}

/// The value of the largest magnitude in a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LargestWeight {
    /// Name of its tensor.
    pub(crate) name: String,
    /// The magnitude.
    pub(crate) magnitude: f32,
}

/// The terms of the loss by their names, for the first one that is not finite.
pub(crate) fn first_non_finite(terms: [f64; 3]) -> Option<NonFinite> {
    ["cross-entropy", "KL divergence", "L2 penalty"]
        .into_iter()
        .zip(terms)
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
        assert_eq!(first_non_finite([1.0, 2.0, 3.0]), None);
        let cause = first_non_finite([1.0, f64::NEG_INFINITY, f64::NAN]).expect("found");
        assert_eq!(cause.to_string(), "KL divergence -inf");
    }
}
