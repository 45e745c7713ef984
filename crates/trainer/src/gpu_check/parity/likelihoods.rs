//! The likelihoods' values and gradients by the kernels of a GPU's own step, against values computed independently in float64: also for parameters that
//! are far off, such as logits of thousands, means on their level and scales below the smallest.

use burn::prelude::*;
use resnet_blocks::join;
use vae_core::{Likelihood, Scale};
use vae_device_step::{ImageLikelihood, image_likelihood};

use super::golden::Golden;
use crate::gpu_check::row::Comparison;

/// The golden file, inside the program.
pub(super) const FILE: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../vae-core/tests/golden2/likelihoods.safetensors"
));

/// What the file calls the likelihoods.
pub(super) const FAMILIES: [(&str, Likelihood); 7] = [
    ("bernoulli", Likelihood::Bernoulli),
    ("renormalised", Likelihood::RenormalisedBernoulli),
    (
        "logistic_channel",
        Likelihood::Logistic {
            scale: Scale::Global,
        },
    ),
    (
        "logistic_pixel",
        Likelihood::Logistic {
            scale: Scale::PerPixel,
        },
    ),
    (
        "gaussian_channel",
        Likelihood::Gaussian {
            scale: Scale::Global,
        },
    ),
    (
        "gaussian_pixel",
        Likelihood::Gaussian {
            scale: Scale::PerPixel,
        },
    ),
    ("mixture", Likelihood::LogisticMixture { components: 10 }),
];

/// What maps are made of, in the order of their channels.
const LEAVES: [&str; 4] = ["logits", "output", "mean", "log_scale"];

/// Of an image's negative log-probability, as a share of it.
const NLL: f64 = 3e-6;
/// Of a gradient by a mean, as a share of its size and of 1 / scale.
const MEAN_GRADIENT: f64 = 1e-4;
/// Of the other gradients, as a share of their size and of 1.
const GRADIENT: f64 = 2e-4;
/// The smallest log-scale that is not taken for larger.
const SMALLEST_LOG_SCALE: f64 = -7.0;

/// Compares one family; each comparison's error is that of its worst value.
///
/// # Panics
/// If the device fails, or has no such kernels.
pub(super) fn compare(
    golden: &Golden,
    (family, likelihood): (&str, Likelihood),
    device: &Device,
) -> Vec<Comparison> {
    let cases = ["ordinary", "extreme"].map(|case| format!("{family}.{case}"));
    let of_case = |case: String| {
        // Scales of colours are parameters of the model, and not of its map.
        let (of_colours, of_map): (Vec<&str>, Vec<&str>) = LEAVES
            .into_iter()
            .filter(|leaf| golden.values(&format!("{case}.{leaf}")).is_some())
            .partition(|leaf| golden.shape(&format!("{case}.{leaf}")).len() == 1);
        let log_scales = of_colours
            .first()
            .map(|leaf| golden.tensor(&format!("{case}.{leaf}"), device));
        let map: Vec<Tensor<4>> = of_map
            .iter()
            .map(|leaf| golden.tensor(&format!("{case}.{leaf}"), device))
            .collect();
        let images = golden
            .tensor::<4>(&format!("{case}.pixels"), device)
            .div_scalar(255.0);
        let found = image_likelihood(likelihood, join(map, 1), log_scales, images);
        let found = found.unwrap_or_else(|| panic!("{likelihood} has no kernels"));
        let found = found.unwrap_or_else(|error| panic!("{error}"));
        compare_case(
            golden,
            &case,
            (&of_map, of_colours.first().copied()),
            &found,
        )
    };
    cases.into_iter().flat_map(of_case).collect()
}

/// What was found for a case, whose map has the channels of `of_map`, against the file.
fn compare_case(
    golden: &Golden,
    case: &str,
    (of_map, of_colours): (&[&str], Option<&str>),
    found: &ImageLikelihood,
) -> Vec<Comparison> {
    let expected = |name: &str| golden.values(&format!("{case}.{name}")).unwrap_or_default();
    let mut all = Vec::new();
    let mut add = |name: &str, found: Vec<f64>, allowed: f64, unit: &dyn Fn(usize, f64) -> f64| {
        all.push(Comparison {
            tensor: format!("{case}.{name}"),
            error: worst(&expected(name), &found, unit),
            allowed,
        });
    };
    let nll = found.nll.iter().copied().map(f64::from).collect();
    add("nll", nll, NLL, &|_, size| size);

    let [batch, _, height, width] = golden.shape(&format!("{case}.pixels"))[..] else {
        panic!("{case} has images");
    };
    let positions = height * width;
    let channels = found.by_map.len() / (batch * positions);
    let log_scales = expected("log_scale");
    // Of the mean over the images; the file's is of their sum.
    let of_sum = |value: f32| f64::from(value) * batch as f64;
    let mut first = 0;
    for leaf in of_map {
        let own = golden.shape(&format!("{case}.{leaf}"))[1];
        let mut by_leaf = Vec::new();
        for image in 0..batch {
            for channel in first..first + own {
                let at = |position: usize| (image * positions + position) * channels + channel;
                by_leaf.extend((0..positions).map(|position| of_sum(found.by_map[at(position)])));
            }
        }
        first += own;
        let name = format!("grad.{leaf}");
        if *leaf == "mean" {
            let inverse_scale = |index: usize| {
                let at = if log_scales.len() == own {
                    index / positions % own
                } else {
                    index
                };
                (-log_scales[at].max(SMALLEST_LOG_SCALE)).exp()
            };
            add(&name, by_leaf, MEAN_GRADIENT, &|index, size| {
                size + inverse_scale(index)
            });
        } else {
            add(&name, by_leaf, GRADIENT, &|_, size| size + 1.0);
        }
    }
    if let (Some(leaf), Some(by_scale)) = (of_colours, &found.by_log_scale) {
        let by_scale = by_scale.iter().copied().map(of_sum).collect();
        add(&format!("grad.{leaf}"), by_scale, GRADIENT, &|_, size| {
            size + 1.0
        });
    }
    all
}

/// The largest difference in units of its value; none where a value is missing or no number.
fn worst(expected: &[f64], found: &[f64], unit: &dyn Fn(usize, f64) -> f64) -> Option<f64> {
    if expected.is_empty() || expected.len() != found.len() {
        return None;
    }
    let pairs = expected.iter().zip(found).enumerate();
    let mut errors = pairs
        .map(|(index, (expected, found))| (expected - found).abs() / unit(index, expected.abs()));
    errors.try_fold(0.0f64, |worst, error| {
        error.is_finite().then(|| worst.max(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_the_file_has_its_values_and_gradients() {
        let golden = Golden::read(FILE);
        for (family, _) in FAMILIES {
            for case in ["ordinary", "extreme"] {
                assert!(
                    golden.values(&format!("{family}.{case}.nll")).is_some(),
                    "{family}"
                );
                assert!(
                    golden.count(&format!("{family}.{case}.grad.")) > 0,
                    "{family}"
                );
            }
        }
    }

    #[test]
    fn a_value_that_is_off_or_missing_or_no_number_is_found() {
        let size = |_: usize, size: f64| size + 1.0;
        assert_eq!(worst(&[1.0, 3.0], &[1.0, 4.0], &size), Some(0.25));
        assert_eq!(worst(&[1.0, 3.0], &[1.0], &size), None);
        assert_eq!(worst(&[1.0, 3.0], &[1.0, f64::NAN], &size), None);
        assert_eq!(worst(&[], &[], &size), None);
    }
}
