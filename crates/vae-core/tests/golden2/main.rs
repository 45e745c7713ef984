//! Likelihoods against values computed independently in float64 (`golden2/`), on flex and on another backend.

mod divergence;
mod golden_file;
mod sums;
mod tolerances;

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::join;
use vae_core::{Likelihood, PixelLikelihood, PixelNoise, Scale};

use golden_file::{Golden, values};
use tolerances::{FAMILIES, check, check_gradient, check_nll, tolerances};

fn golden_path(file: &str) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    match file {
        // Read by both crates, and kept by the one that it is mostly of.
        "bounds" => format!("{folder}/../vae-measures/tests/golden2/bounds.safetensors"),
        _ => format!("{folder}/tests/golden2/{file}.safetensors"),
    }
}

#[expect(deprecated, reason = "the second backend takes the plain forms")]
fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()]
}

/// Value and gradients of one case, where the map is made of several leaves.
fn check_case(
    golden: &Golden,
    case: &str,
    likelihood: Likelihood,
    leaves: &[&str],
    device: &Device,
    dtype: DType,
) {
    let device = device.clone().autodiff();
    let tolerances = tolerances(dtype, likelihood);
    let images = golden.images(&format!("{case}.pixels"), &device, dtype);
    let [batch, colours, height, width] = images.dims();
    let load = |leaf: &&str| {
        let (shape, values) = golden.get(&format!("{case}.{leaf}"));
        let shape = if shape.len() == 1 {
            vec![1, colours, 1, 1]
        } else {
            shape.clone()
        };
        let data = TensorData::new(values.clone(), shape).convert_dtype(dtype);
        Tensor::<4>::from_data(data, (&device, dtype)).require_grad()
    };
    let leaf_tensors: Vec<Tensor<4>> = leaves.iter().map(load).collect();
    let spread = |leaf: &Tensor<4>| {
        let channels = leaf.dims()[1];
        leaf.clone().expand([batch, channels, height, width])
    };
    let map = join(leaf_tensors.iter().map(spread).collect(), 1);
    let nll = likelihood.nll(map, images);
    let gradients = nll.clone().sum().backward();
    let label = |what: &str| format!("{case} {dtype:?} {device:?}: {what}");
    check_nll(golden, case, &label("nll"), &values(nll), &tolerances);
    for (leaf, tensor) in leaves.iter().zip(&leaf_tensors) {
        let found = values(tensor.grad(&gradients).expect("a gradient"));
        let name = label(&format!("gradient by {leaf}"));
        check_gradient(golden, (case, leaf), &name, &found, &tolerances);
    }
}

#[test]
fn every_likelihood_has_the_golden_values_and_gradients() {
    let golden = Golden::read();
    for (prefix, likelihood, leaves) in FAMILIES {
        for case in ["ordinary", "extreme"] {
            for device in devices() {
                for dtype in [DType::F64, DType::F32] {
                    let case = format!("{prefix}.{case}");
                    check_case(&golden, &case, likelihood, leaves, &device, dtype);
                }
            }
        }
    }
}

/// A mixture's map whose channels are fastest in memory, as flex's convolutions leave it, gives the same bits.
#[test]
fn the_order_in_memory_does_not_matter() {
    let golden = Golden::read();
    let device = Device::flex().autodiff();
    let likelihood = Likelihood::LogisticMixture { components: 10 };
    let images = golden.images("mixture.ordinary.pixels", &device, DType::F32);
    let found = |map: Tensor<4>, leaf: &Tensor<4>| {
        let nll = likelihood.nll(map, images.clone());
        // Other factors than 1 reach the images.
        let weights = Tensor::<1>::from_floats([2.0, -0.5], &device);
        let gradients = (nll.clone() * weights).sum().backward();
        (
            values(nll),
            values(leaf.grad(&gradients).expect("a gradient")),
        )
    };
    let leaf = golden
        .tensor("mixture.ordinary.output", &device, DType::F32)
        .require_grad();
    let dense = found(leaf.clone(), &leaf);
    let output = golden.values("mixture.ordinary.output");
    let channels_last: Vec<f64> = (0..3200)
        .map(|at| output[at / 1600 * 1600 + at % 100 * 16 + at % 1600 / 100])
        .collect();
    let data = TensorData::new(channels_last, [2, 4, 4, 100]).convert_dtype(DType::F32);
    let last = Tensor::<4>::from_data(data, &device).require_grad();
    let (nll, gradient) = found(last.clone().permute([0, 3, 1, 2]), &last);
    assert_eq!(nll, dense.0);
    let gradient = Tensor::<1>::from_data(
        TensorData::new(gradient, [3200]).convert_dtype(DType::F32),
        &device,
    );
    assert_eq!(
        values(gradient.reshape([2, 4, 4, 100]).permute([0, 3, 1, 2])),
        dense.1
    );
    let unweighted: Vec<f64> = dense
        .1
        .iter()
        .enumerate()
        .map(|(index, gradient)| {
            if index < 1600 {
                gradient / 2.0
            } else {
                gradient / -0.5
            }
        })
        .collect();
    let expected = golden.values("mixture.ordinary.grad.output");
    check("weighted gradient", &unweighted, expected, |_, expected| {
        2e-4 * (expected + 1.0)
    });
}

#[test]
fn samples_are_those_of_the_given_noise() {
    let golden = Golden::read();
    for device in devices() {
        for dtype in [DType::F64, DType::F32] {
            let tensor = |name: &str| golden.tensor(name, &device, dtype);
            let levels = |images: Tensor<4>| -> Vec<f64> {
                values(images)
                    .iter()
                    .map(|value| (value * 255.0).round())
                    .collect()
            };
            let drawn = Likelihood::LogisticMixture { components: 10 }.sample(
                tensor("mixture.ordinary.output"),
                PixelNoise {
                    component: Some(tensor("mixture.sample.uniform_component")),
                    pixel: tensor("mixture.sample.uniform_pixel"),
                },
            );
            assert_eq!(levels(drawn), golden.values("mixture.sample.pixels"));
            let scale = Scale::PerPixel;
            for (family, noise, likelihood) in [
                ("logistic_pixel", "uniform", Likelihood::Logistic { scale }),
                ("gaussian_pixel", "noise", Likelihood::Gaussian { scale }),
            ] {
                let parameters = ["mean", "log_scale"];
                let map = parameters.map(|name| tensor(&format!("{family}.ordinary.{name}")));
                let pixel = tensor(&format!("{family}.sample.{noise}"));
                let noise = PixelNoise {
                    component: None,
                    pixel,
                };
                let drawn = likelihood.sample(join(map.to_vec(), 1), noise);
                assert_eq!(
                    levels(drawn),
                    golden.values(&format!("{family}.sample.pixels"))
                );
            }
        }
    }
}

#[test]
fn the_mixtures_image_is_the_average_of_its_components() {
    let golden = Golden::read();
    let mixture = Likelihood::LogisticMixture { components: 10 };
    for (dtype, allowed) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let map = golden.tensor("mixture.ordinary.output", &Device::flex(), dtype);
        let image = mixture.mean_image(map);
        let signed = values(image.mul_scalar(2.0).sub_scalar(1.0));
        check(
            "mean",
            &signed,
            golden.values("mixture.mean.by_component"),
            |_, _| allowed,
        );
    }
}

#[test]
fn grey_levels_cost_what_the_bernoulli_families_allow() {
    let golden = Golden::read();
    let (device, dtype) = (Device::flex(), DType::F64);
    let column = |values: Vec<f64>| {
        let rows = values.len();
        Tensor::<4>::from_data(TensorData::new(values, [rows, 1, 1, 1]), (&device, dtype))
    };
    let shares: Vec<f64> = (1..255).map(|level| level as f64 / 255.0).collect();
    let logits: Vec<f64> = shares
        .iter()
        .map(|share| (share / (1.0 - share)).ln())
        .collect();
    let nll = |likelihood: Likelihood, logits: &[f64]| {
        values(likelihood.nll(column(logits.to_vec()), column(shares.clone())))
    };
    let allowed = |_: usize, expected: f64| 1e-11 * expected.max(1.0);
    let inner = |name: &str| &golden.values(name)[1..255];
    let renormalised = Likelihood::RenormalisedBernoulli;
    check(
        "floor",
        &nll(Likelihood::Bernoulli, &logits),
        inner("levels.bernoulli_floor"),
        allowed,
    );
    let at_share = "levels.renormalised_at_lambda_equals_x";
    check(
        at_share,
        &nll(renormalised, &logits),
        inner(at_share),
        allowed,
    );
    let best = golden.values("levels.renormalised_best_logit");
    check(
        "best",
        &nll(renormalised, best),
        inner("levels.renormalised_best"),
        allowed,
    );
    // The best logit of a level is the one whose mean is that level.
    let means = values(renormalised.mean_image(column(best.to_vec())));
    check("mean", &means, &shares, |_, _| 1e-9);
}

/// bfloat16 maps are scored in float32.
#[test]
fn a_narrow_map_is_widened_before_it_is_scored() {
    let golden = Golden::read();
    let device = Device::flex();
    let images = golden.images("mixture.ordinary.pixels", &device, DType::F32);
    let mixture = Likelihood::LogisticMixture { components: 10 };
    let map = golden
        .tensor("mixture.ordinary.output", &device, DType::F32)
        .cast(burn::tensor::FloatDType::BF16);
    let narrow = mixture.nll(map.clone(), images.clone());
    assert_eq!(narrow.dtype(), DType::F32);
    let wide = mixture.nll(map.cast(burn::tensor::FloatDType::F32), images);
    assert_eq!(values(narrow), values(wide));
}

#[test]
fn a_value_that_is_not_a_number_is_not_hidden() {
    let golden = Golden::read();
    let device = Device::flex();
    let images = golden.images("mixture.ordinary.pixels", &device, DType::F32);
    let mixture = Likelihood::LogisticMixture { components: 10 };
    for channel in [0, 10, 20, 30, 95] {
        let mut data = golden.get("mixture.ordinary.output").1.clone();
        data[channel * 16 + 7] = f64::NAN;
        let data = TensorData::new(data, [2, 100, 4, 4]).convert_dtype(DType::F32);
        let nll = values(mixture.nll(Tensor::from_data(data, &device), images.clone()));
        assert!(
            nll[0].is_nan() && nll[1].is_finite(),
            "channel {channel}: {nll:?}"
        );
    }
}

/// A part of a batch is a view of the whole map's memory, in either order of its channels.
#[test]
fn images_of_a_narrowed_map_score_as_in_the_whole_batch() {
    let mixture = Likelihood::LogisticMixture { components: 3 };
    let (batch, channels, size) = (4, 30, 5);
    let count = batch * channels * size * size;
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    let levels: Vec<f32> = (0..batch * 3 * size * size)
        .map(|i| (i * 7 % 256) as f32 / 255.0)
        .collect();
    for is_last in [true, false] {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let map = if is_last {
                let data = TensorData::new(values.clone(), [batch, size, size, channels]);
                Tensor::<4>::from_data(data, &device).permute([0, 3, 1, 2])
            } else {
                let data = TensorData::new(values.clone(), [batch, channels, size, size]);
                Tensor::<4>::from_data(data, &device)
            };
            let images = TensorData::new(levels.clone(), [batch, 3, size, size]);
            let images = Tensor::<4>::from_data(images, &device);
            let whole = mixture.nll(map.clone(), images.clone());
            for image in 0..batch {
                let (part, of_part) = (map.clone().narrow(0, image, 1), images.clone());
                let part = if device.is_autodiff() {
                    part.require_grad()
                } else {
                    part
                };
                let found = mixture.nll(part.clone(), of_part.narrow(0, image, 1));
                let expected = whole.clone().narrow(0, image, 1).into_data();
                assert_eq!(
                    found.clone().into_data(),
                    expected,
                    "image {image}, {is_last}"
                );
                if device.is_autodiff() {
                    let gradients = found.sum().backward();
                    let gradient = part.grad(&gradients).expect("of the map");
                    assert_eq!(gradient.dims(), [1, channels, size, size]);
                }
            }
        }
    }
}
