//! Distributions over levels sum to 1.

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::join;
use vae_core::{Likelihood, PixelLikelihood, Scale};

use crate::golden_file::{Golden, values};

/// Probabilities of all 256 levels under each of the stored parameters.
fn sums_over_levels(likelihood: Likelihood, map: Tensor<4>) -> Vec<f64> {
    let [batch, channels, height, width] = map.dims();
    let colours = if channels == 6 { 3 } else { channels };
    let parts = channels / colours;
    let singles = batch * colours * height * width;
    // One image of one value for each parameter: [batch, parts, colours, height, width] to [singles, parts].
    let map = map
        .reshape([batch, parts, colours, height * width])
        .permute([0, 2, 3, 1])
        .reshape([singles, parts, 1, 1]);
    let mut sums = vec![0.0; singles];
    for level in 0..256 {
        let images = Tensor::full(
            [singles, 1, 1, 1],
            level as f64 / 255.0,
            (&map.device(), map.dtype()),
        );
        let nll = values(likelihood.nll(map.clone(), images));
        sums.iter_mut()
            .zip(nll)
            .for_each(|(sum, nll)| *sum += (-nll).exp());
    }
    sums
}

#[test]
fn every_distribution_over_levels_sums_to_1() {
    let golden = Golden::read();
    let scale = Scale::PerPixel;
    for (dtype, allowed) in [(DType::F64, 1e-12_f64), (DType::F32, 2e-5)] {
        for case in ["ordinary", "extreme"] {
            let tensor = |name: &str| golden.tensor(name, &Device::flex(), dtype);
            let pair = |family: &str| {
                let parameters = ["mean", "log_scale"];
                join(
                    parameters
                        .map(|name| tensor(&format!("{family}.{case}.{name}")))
                        .to_vec(),
                    1,
                )
            };
            for (likelihood, map, allowed) in [
                (
                    Likelihood::Logistic { scale },
                    pair("logistic_pixel"),
                    allowed,
                ),
                // Its tail probabilities come from a fit with a fractional error of 1.2e-7.
                (
                    Likelihood::Gaussian { scale },
                    pair("gaussian_pixel"),
                    allowed.max(2e-7),
                ),
                (
                    Likelihood::RenormalisedBernoulli,
                    tensor(&format!("renormalised.{case}.logits")),
                    allowed,
                ),
            ] {
                for sum in sums_over_levels(likelihood, map) {
                    assert!(
                        (sum - 1.0).abs() <= allowed,
                        "{likelihood} {case} {dtype:?}: {sum}"
                    );
                }
            }
        }
    }
}

/// Sigmoid of x, and of the complement, without loss.
fn logistic_mass(level: usize, mean: f64, log_scale: f64) -> f64 {
    let scale = log_scale.max(-7.0).exp();
    let x = 2.0 * level as f64 / 255.0 - 1.0;
    let edge = |of: f64| (x + of / 255.0 - mean) / scale;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match level {
        0 => sigmoid(edge(1.0)),
        255 => sigmoid(-edge(-1.0)),
        // Whichever tail is the smaller one.
        _ if edge(-1.0) > 0.0 => sigmoid(-edge(-1.0)) - sigmoid(-edge(1.0)),
        _ => sigmoid(edge(1.0)) - sigmoid(edge(-1.0)),
    }
}

/// Summed over blue, a mixture is what its red and green alone say; those sum to 1 by the differences telescoping.
#[test]
fn the_mixtures_last_colour_sums_to_what_the_others_leave() {
    let golden = Golden::read();
    let (device, dtype) = (Device::flex(), DType::F64);
    let (_, output) = golden.get("mixture.ordinary.output");
    let mixture = Likelihood::LogisticMixture { components: 10 };
    for position in [0usize, 5, 10] {
        let at = |channel: usize| output[channel * 16 + position];
        let map: Vec<f64> = (0..100).map(at).collect();
        for (red, green) in [(0usize, 255usize), (100, 130), (254, 1), (128, 0)] {
            let map = Tensor::<4>::from_data(
                TensorData::new(map.clone(), [1, 100, 1, 1]),
                (&device, dtype),
            )
            .expand([1, 100, 16, 16]);
            // All 256 blues, each an image of its own by a batch of 256.
            let map = map
                .slice([0..1, 0..100, 0..1, 0..1])
                .expand([256, 100, 1, 1]);
            let colours: Vec<f64> = (0..256)
                .flat_map(|blue| {
                    [
                        red as f64 / 255.0,
                        green as f64 / 255.0,
                        blue as f64 / 255.0,
                    ]
                })
                .collect();
            let images =
                Tensor::<4>::from_data(TensorData::new(colours, [256, 3, 1, 1]), (&device, dtype));
            let found: f64 = values(mixture.nll(map, images))
                .iter()
                .map(|nll| (-nll).exp())
                .sum();
            let largest = (0..10).map(at).fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = (0..10).map(|k| (at(k) - largest).exp()).collect();
            let red_signed = 2.0 * red as f64 / 255.0 - 1.0;
            let expected: f64 = (0..10)
                .map(|k| {
                    let of_red = logistic_mass(red, at(10 + k), at(20 + k));
                    let mean = at(40 + k) + at(30 + k).tanh() * red_signed;
                    weights[k] * of_red * logistic_mass(green, mean, at(50 + k))
                })
                .sum::<f64>()
                / weights.iter().sum::<f64>();
            assert!(
                (found - expected).abs() <= 1e-11 * expected + 1e-300,
                "{found} is not {expected}"
            );
        }
    }
}
