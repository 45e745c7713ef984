//! What became of a step, from what a GPU says of it.

use run_files::divergence::{NonFinite, first_non_finite};
use run_files::metrics::BatchLoss;
use run_files::step_guard::StepGuard;

use crate::step::request::Outcome;

/// What the device found, besides the loss.
pub(super) struct Finding {
    /// Of the objective's gradient.
    pub(super) gradient_norm: f64,
    /// Whether the device has changed the model.
    pub(super) is_taken: bool,
    /// The first parameter whose gradient is not finite, and how many there are.
    pub(super) not_finite: Option<String>,
    pub(super) not_finite_parameters: usize,
}

/// A loss that is not finite is named before a gradient that is not; either way with the first parameter whose gradient is not finite.
pub(super) fn verdict(
    finding: Finding,
    loss: BatchLoss,
    guard: &mut StepGuard,
    factor: Option<f64>,
) -> Outcome {
    let of_loss = first_non_finite(loss);
    if of_loss.is_none() && finding.gradient_norm.is_finite() {
        guard.skips_large(finding.gradient_norm, factor);
        return if finding.is_taken {
            Outcome::Taken
        } else {
            Outcome::TooLarge
        };
    }
    let of_gradient = NonFinite {
        term: "gradient",
        value: finding.gradient_norm.to_string(),
        parameter: None,
        parameters: 0,
    };
    let mut cause = of_loss.unwrap_or(of_gradient);
    cause.parameters = finding.not_finite_parameters;
    cause.parameter = finding.not_finite;
    Outcome::NotFinite {
        cause,
        stops: guard.skip_non_finite(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms of two images.
    const LOSS: BatchLoss = BatchLoss {
        cross_entropy: 4000.0,
        kl: 20.0,
        l2: 0.5,
    };

    fn taken() -> Finding {
        Finding {
            gradient_norm: 3.0,
            is_taken: true,
            not_finite: None,
            not_finite_parameters: 0,
        }
    }

    /// A step that was skipped for gradients that are not finite, of which `parameter` is the first of three.
    fn lost(parameter: &str) -> Finding {
        Finding {
            gradient_norm: f64::NAN,
            is_taken: false,
            not_finite: Some(parameter.to_owned()),
            not_finite_parameters: 3,
        }
    }

    fn cause(term: &'static str, value: &str, parameter: Option<&str>) -> NonFinite {
        NonFinite {
            term,
            value: value.to_owned(),
            parameter: parameter.map(str::to_owned),
            parameters: if parameter.is_some() { 3 } else { 0 },
        }
    }

    #[track_caller]
    fn check_lost(finding: Finding, loss: BatchLoss, expected: NonFinite) {
        let mut guard = StepGuard::default();
        let found = verdict(finding, loss, &mut guard, None);
        let expected = Outcome::NotFinite {
            cause: expected,
            stops: false,
        };
        assert_eq!(found, expected);
        assert_eq!((guard.skipped, guard.non_finite_in_row), (1, 1));
    }

    #[test]
    fn a_finite_step_is_taken_and_ends_a_row_of_others() {
        let mut guard = StepGuard::default();
        verdict(lost("a"), LOSS, &mut guard, None);
        assert_eq!(verdict(taken(), LOSS, &mut guard, None), Outcome::Taken);
        assert_eq!((guard.skipped, guard.non_finite_in_row), (1, 0));
    }

    #[test]
    fn a_term_of_the_loss_is_named_before_the_gradient_with_the_first_parameter() {
        let value = f64::INFINITY;
        let (mut cross_entropy, mut kl, mut l2) = (LOSS, LOSS, LOSS);
        (cross_entropy.cross_entropy, kl.kl, l2.l2) = (value, value, value);
        for (term, loss) in [
            ("cross-entropy", cross_entropy),
            ("KL divergence", kl),
            ("L2 penalty", l2),
        ] {
            check_lost(lost("a"), loss, cause(term, "inf", Some("a")));
        }
        // The first of two, also where the gradient is finite.
        let loss = BatchLoss {
            kl: f64::NAN,
            l2: f64::NEG_INFINITY,
            ..LOSS
        };
        let skipped = Finding {
            is_taken: false,
            ..taken()
        };
        check_lost(skipped, loss, cause("KL divergence", "NaN", None));
    }

    #[test]
    fn a_gradient_is_named_where_the_loss_is_finite() {
        check_lost(lost("b"), LOSS, cause("gradient", "NaN", Some("b")));
        // Finite values whose squares have no finite sum.
        let too_long = Finding {
            gradient_norm: f64::INFINITY,
            is_taken: false,
            ..taken()
        };
        check_lost(too_long, LOSS, cause("gradient", "inf", None));
    }

    #[test]
    fn the_tenth_in_a_row_stops() {
        let mut guard = StepGuard::default();
        let stops = |outcome| matches!(outcome, Outcome::NotFinite { stops: true, .. });
        let all: Vec<bool> = (0..10)
            .map(|_| stops(verdict(lost("a"), LOSS, &mut guard, None)))
            .collect();
        assert_eq!(all.iter().position(|stops| *stops), Some(9));
    }

    #[test]
    fn a_finite_step_that_the_device_skipped_was_too_large_and_counts_as_skipped() {
        let mut guard = StepGuard::default();
        let factor = Some(5.0);
        for _ in 0..40 {
            let usual = verdict(taken(), LOSS, &mut guard, factor);
            assert_eq!(usual, Outcome::Taken);
        }
        let largest = guard.largest_norm(factor, false).expect("a usual norm");
        let large = Finding {
            gradient_norm: 1.01 * largest,
            is_taken: false,
            ..taken()
        };
        let found = verdict(large, LOSS, &mut guard, factor);
        assert_eq!(found, Outcome::TooLarge);
        assert_eq!((guard.skipped, guard.non_finite_in_row), (1, 0));
    }
}
