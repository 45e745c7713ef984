//! What values and gradients of likelihoods are held to, whoever computes them.
//!
//! Tolerances, float64 and float32: negative log-probability relative 1e-12 and 3e-6; gradients by a mean
//! 1e-10 and 1e-4 of (|expected| + 1 / scale), others 1e-10 and 2e-4 of (|expected| + 1). In float64 the Gaussian, which has
//! only the error function to work with, is held to 1e-9 and its gradients to 1e-5. Samples are equal.

use burn::tensor::DType;
use vae_core::{Likelihood, Scale};

use super::golden_file::Golden;

/// What the two element types are held to.
pub(crate) struct Tolerances {
    nll: f64,
    mean_gradient: f64,
    gradient: f64,
}

pub(crate) fn tolerances(dtype: DType, likelihood: Likelihood) -> Tolerances {
    match (dtype, likelihood) {
        (DType::F64, Likelihood::Gaussian { .. }) => Tolerances {
            nll: 1e-9,
            mean_gradient: 1e-5,
            gradient: 1e-5,
        },
        (DType::F64, _) => Tolerances {
            nll: 1e-12,
            mean_gradient: 1e-10,
            gradient: 1e-10,
        },
        _ => Tolerances {
            nll: 3e-6,
            mean_gradient: 1e-4,
            gradient: 2e-4,
        },
    }
}

const BOTH: &[&str] = &["mean", "log_scale"];

/// Families of the golden file, and what their maps are made of.
pub(crate) const FAMILIES: [(&str, Likelihood, &[&str]); 7] = [
    ("bernoulli", Likelihood::Bernoulli, &["logits"]),
    (
        "renormalised",
        Likelihood::RenormalisedBernoulli,
        &["logits"],
    ),
    (
        "logistic_channel",
        Likelihood::Logistic {
            scale: Scale::Global,
        },
        BOTH,
    ),
    (
        "logistic_pixel",
        Likelihood::Logistic {
            scale: Scale::PerPixel,
        },
        BOTH,
    ),
    (
        "gaussian_channel",
        Likelihood::Gaussian {
            scale: Scale::Global,
        },
        BOTH,
    ),
    (
        "gaussian_pixel",
        Likelihood::Gaussian {
            scale: Scale::PerPixel,
        },
        BOTH,
    ),
    (
        "mixture",
        Likelihood::LogisticMixture { components: 10 },
        &["output"],
    ),
];

#[track_caller]
pub(crate) fn check(
    name: &str,
    found: &[f64],
    expected: &[f64],
    allowed: impl Fn(usize, f64) -> f64,
) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let (error, allowed) = ((found - expected).abs(), allowed(index, expected.abs()));
        assert!(
            error <= allowed,
            "{name}[{index}]: {found:e} is not {expected:e}: off by {error:e}, {allowed:e} allowed"
        );
    }
}

/// The negative log-probability of each image.
#[track_caller]
pub(crate) fn check_nll(
    golden: &Golden,
    case: &str,
    name: &str,
    found: &[f64],
    tolerances: &Tolerances,
) {
    let expected = golden.values(&format!("{case}.nll"));
    check(name, found, expected, |_, expected| {
        tolerances.nll * expected
    });
}

/// The gradient of the images' sum by a part of the map.
#[track_caller]
pub(crate) fn check_gradient(
    golden: &Golden,
    (case, leaf): (&str, &str),
    name: &str,
    found: &[f64],
    tolerances: &Tolerances,
) {
    let expected = golden.values(&format!("{case}.grad.{leaf}"));
    if leaf != "mean" {
        check(name, found, expected, |_, expected| {
            tolerances.gradient * (expected + 1.0)
        });
        return;
    }
    let log_scales = golden.values(&format!("{case}.log_scale"));
    let inverse = |index: usize| {
        let at = if log_scales.len() == 3 {
            index / 16 % 3
        } else {
            index
        };
        (-log_scales[at].max(-7.0)).exp()
    };
    check(name, found, expected, |index, expected| {
        tolerances.mean_gradient * (expected + inverse(index))
    });
}
