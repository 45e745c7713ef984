//! Both blocks against values computed independently in float64 (`golden/`).
//!
//! Tolerances: relative L2 a tensor, 1e-5 in float64 and 1e-4 in float32. A convolution bias that a norm follows has a
//! true gradient of zero, so its gradients are compared absolutely (1e-4).
//!
//! With products in bfloat16 a value has been rounded three times a layer (both operands and the result), each time by up to
//! u = 2^-8 of itself and by about u/2 in the root mean square. `n` such errors that know nothing of each other add up to
//! sqrt(n) u/2, and a factor of 2 is left for norms over few values. Outputs have passed 3 layers: d = 5.9e-3 expected,
//! 1.2e-2 allowed. Gradients without ReLU have passed 3 more: 1.7e-2 allowed for the gradient as one vector. With ReLU they
//! are off by more, because a ReLU whose input changes its sign passes a gradient that is wholly wrong: of inputs that are
//! normal and off by a share d, a share d/pi does, so that three ReLUs give sqrt(3 d / pi) = 7.5e-2. Here that is a handful
//! of units, so the input's gradient and the parameters' as one vector are allowed eight times as much (files of 340 seeds: 0.43 and 0.35
//! at most, and an independent emulation in PyTorch has the same); single tensors, some of four numbers that nearly cancel, may be off by any share of themselves and need only be finite.

#[path = "checks/golden.rs"]
mod checks;

use std::collections::HashMap;

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{Activation, Block, Precision, map_named_parameters, named_parameters};

use checks::{
    FILES, Golden, Gradients, Tolerances, block, check_block, check_block_with, has_zero_gradient,
};

fn golden_path(file: &str) -> String {
    format!(
        "{}/tests/golden/{file}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn every_block_matches_in_float64_on_flex() {
    FILES
        .iter()
        .for_each(|file| check_block(file, &Device::flex(), DType::F64, 1e-5));
}

#[test]
fn every_block_matches_in_float32_on_flex() {
    FILES
        .iter()
        .for_each(|file| check_block(file, &Device::flex(), DType::F32, 1e-4));
}

#[test]
fn every_block_matches_with_products_in_bfloat16() {
    let unit = 2f64.powi(-8);
    let expected = 9f64.sqrt() * unit / 2.0;
    let tolerances = Tolerances {
        forward: 2.0 * expected,
        gradient: f64::INFINITY,
        whole_gradient: 8.0 * (3.0 * expected / std::f64::consts::PI).sqrt(),
    };
    for file in FILES {
        let device = Device::flex();
        check_block_with(file, &device, DType::F32, Precision::Bf16, tolerances);
    }
}

/// The gradients of a block without a ReLU, by the golden parameters, flattened, in the order of the module.
fn smooth_gradients(file: &str, dtype: DType, precision: Precision) -> Vec<(String, Vec<f64>)> {
    let golden = Golden::read(file);
    let device = Device::flex().autodiff();
    let block = map_named_parameters(block(file, precision, &device), |name, _| {
        Some(golden.data(&format!("param.{name}"), dtype))
    });
    let block = match block {
        Block::Basic(mut block) => {
            block.activation = Activation::Silu;
            Block::Basic(block)
        }
        Block::Bottleneck(mut block) => {
            block.activation = Activation::Silu;
            Block::Bottleneck(block)
        }
    };
    let tensor = |name| Tensor::<4>::from_data(golden.data(name, dtype), (&device, dtype));
    let gradients = (block.forward(tensor("input")) * tensor("grad.output"))
        .sum()
        .backward();
    let mut by_id = Gradients {
        gradients: &gradients,
        found: HashMap::new(),
    };
    block.visit(&mut by_id);
    let parameters = named_parameters(&block.valid()).into_iter();
    let found = parameters.filter_map(|parameter| {
        let gradient = by_id.found.remove(&parameter.id)?;
        let gradient = gradient.convert_dtype(DType::F64);
        Some((parameter.name, gradient.try_to_vec().expect("float64")))
    });
    found.collect()
}

#[test]
fn without_relu_gradients_in_bfloat16_are_as_near_as_outputs() {
    let allowed = 18f64.sqrt() * 2f64.powi(-8);
    for file in FILES {
        let whole = |dtype, precision| {
            let tensors = smooth_gradients(file, dtype, precision).into_iter();
            let counted = tensors.filter(|(name, _)| !has_zero_gradient(name));
            counted.flat_map(|(_, values)| values).collect::<Vec<f64>>()
        };
        let expected = whole(DType::F64, Precision::F32);
        let found = whole(DType::F32, Precision::Bf16);
        let norm = expected.iter().map(|a| a * a).sum::<f64>().sqrt();
        let pairs = expected.iter().zip(&found);
        let distance = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let relative = distance / norm;
        assert!(relative <= allowed, "{file}: off by {relative:e}");
    }
}

#[test]
fn parameters_and_statistics_stay_float32_with_products_in_bfloat16() {
    let device = Device::flex().autodiff();
    for file in FILES {
        let block = block(file, Precision::Bf16, &device);
        let channels = if file.starts_with("basic") { 8 } else { 16 };
        let golden = Golden::read(file);
        let input = golden.data("input", DType::F32);
        let output = block.forward(Tensor::from_data(input, &device));
        assert_eq!(output.dtype(), DType::F32, "{file}");
        assert_eq!(output.dims()[1], channels, "{file}");
        let gradients = output.sum().backward();
        let mut found = Gradients {
            gradients: &gradients,
            found: HashMap::new(),
        };
        block.visit(&mut found);
        assert!(
            found.found.values().all(|data| data.dtype() == DType::F32),
            "{file}"
        );
        for parameter in named_parameters(&block.valid()) {
            assert_eq!(
                parameter.data.dtype(),
                DType::F32,
                "{file}: {}",
                parameter.name
            );
        }
    }
}

#[test]
#[allow(deprecated)] // ndarray is the reference backend until Burn removes it.
fn every_block_matches_in_float32_on_ndarray() {
    FILES
        .iter()
        .for_each(|file| check_block(file, &Device::ndarray(), DType::F32, 1e-4));
}
