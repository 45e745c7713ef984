//! Both blocks against values computed independently in float64 (`golden/`).
//!
//! Tolerances: relative L2 a tensor, 1e-5 in float64 and 1e-4 in float32. A convolution bias that a norm follows has a
//! true gradient of zero, so its gradients are compared absolutely (1e-4).
//!
//! With products in bfloat16 a value has been rounded three times a layer on its way (both operands and the result), each
//! time by up to u = 2^-8 of itself, and by about u/2 in the root mean square. `n` such errors that know nothing of each
//! other add up to sqrt(n) u/2. A block's longest path has 3 layers forward and 3 back, n = 18; batch norm over few values
//! and ReLUs that switch may enlarge that, for which a factor of 2 is left: sqrt(18) u = 1.7e-2.

use std::collections::HashMap;

use burn::module::ModuleVisitor;
use burn::module::{Param, ParamId};
use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{
    BasicBlockConfig, Block, BottleneckConfig, Precision, Sampling, Shortcuts,
    map_named_parameters, named_parameters,
};

struct Golden(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Golden {
    fn read(file: &str) -> Self {
        let path = format!(
            "{}/tests/golden/{file}.safetensors",
            env!("CARGO_MANIFEST_DIR")
        );
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a golden file");
        let values = |view: &safetensors::tensor::TensorView| {
            let chunks = view.data().as_chunks::<4>().0;
            chunks
                .iter()
                .map(|four| f32::from_le_bytes(*four) as f64)
                .collect()
        };
        Self(
            tensors
                .iter()
                .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view))))
                .collect(),
        )
    }

    fn data(&self, name: &str, dtype: DType) -> TensorData {
        let (shape, values) = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"));
        TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype)
    }
}

/// `true` where a norm follows the convolution, so that its bias has no influence.
fn has_zero_gradient(name: &str) -> bool {
    name.ends_with(".bias") && !name.ends_with("_norm.bias")
}

fn check(golden: &Golden, name: &str, found: TensorData, relative: f64) {
    let (_, expected) = &golden.0[name];
    let found = found
        .convert_dtype(DType::F64)
        .try_to_vec::<f64>()
        .expect("float64");
    assert_eq!(found.len(), expected.len(), "{name}");
    let distance = expected
        .iter()
        .zip(&found)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    let norm = expected.iter().map(|a| a * a).sum::<f64>().sqrt();
    if has_zero_gradient(name) && name.starts_with("grad") {
        let largest = found
            .iter()
            .fold(0.0f64, |largest, value| largest.max(value.abs()));
        assert!(
            largest <= 1e-4,
            "{name}: {largest} where the true gradient is zero"
        );
    } else {
        assert!(
            distance <= relative * norm,
            "{name}: off by {:e}, {relative:e} allowed",
            distance / norm
        );
    }
}

/// Gradients by parameter identifier.
struct Gradients<'a> {
    gradients: &'a burn::tensor::Gradients,
    found: HashMap<ParamId, TensorData>,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(param.id, gradient.into_data());
        }
    }
}

fn block(file: &str, precision: Precision, device: &Device) -> Block {
    let shortcuts = if file.contains("plain") {
        Shortcuts::Plain
    } else {
        Shortcuts::Residual
    };
    let sampling = if file.contains("upsample") || file.contains("transposed") {
        Sampling::Transposed
    } else {
        Sampling::Strided
    };
    let stride = if file.contains("sample") { 2 } else { 1 };
    if file.starts_with("basic") {
        let channels_in = if file.contains("identity") { 8 } else { 6 };
        Block::Basic(
            BasicBlockConfig::new(channels_in, 8)
                .with_stride(stride)
                .with_sampling(sampling)
                .with_shortcuts(shortcuts)
                .with_precision(precision)
                .init(device),
        )
    } else {
        let channels_in = match file {
            "bottleneck_identity" | "bottleneck_plain_identity" => 16,
            "bottleneck_projection" => 6,
            _ => 12,
        };
        Block::Bottleneck(
            BottleneckConfig::new(channels_in, 4)
                .with_stride(stride)
                .with_sampling(sampling)
                .with_shortcuts(shortcuts)
                .with_precision(precision)
                .init(device),
        )
    }
}

fn check_block(file: &str, device: &Device, dtype: DType, relative: f64) {
    check_block_with(file, device, dtype, Precision::F32, relative);
}

fn check_block_with(
    file: &str,
    device: &Device,
    dtype: DType,
    precision: Precision,
    relative: f64,
) {
    let golden = Golden::read(file);
    let device = device.clone().autodiff();
    let mut loaded = 0;
    let block = map_named_parameters(block(file, precision, &device), |name, _| {
        loaded += 1;
        Some(golden.data(&format!("param.{name}"), dtype))
    });
    let stored = golden
        .0
        .keys()
        .filter(|name| name.starts_with("param."))
        .count();
    assert_eq!(loaded, stored, "{file}: every stored parameter has a place");

    let plain = device.clone().inner();
    let input = Tensor::<4>::from_data(golden.data("input", dtype), (&plain, dtype));
    check(
        &golden,
        "output.eval",
        block.valid().forward(input).into_data(),
        relative,
    );

    let input =
        Tensor::<4>::from_data(golden.data("input", dtype), (&device, dtype)).require_grad();
    let output = block.forward(input.clone());
    check(
        &golden,
        "output.train",
        output.clone().inner().into_data(),
        relative,
    );

    let weight = Tensor::<4>::from_data(golden.data("grad.output", dtype), (&device, dtype));
    let gradients = (output * weight).sum().backward();
    let input_gradient = input
        .grad(&gradients)
        .expect("a gradient reaches the input");
    check(&golden, "grad.input", input_gradient.into_data(), relative);

    let mut by_id = Gradients {
        gradients: &gradients,
        found: HashMap::new(),
    };
    block.visit(&mut by_id);
    let mut checked = 0;
    for parameter in named_parameters(&block.valid()) {
        if parameter.name.contains("running") {
            check(
                &golden,
                &format!("after.{}", parameter.name),
                parameter.data,
                relative,
            );
        } else {
            let name = format!("grad.param.{}", parameter.name);
            let gradient = by_id.found.remove(&parameter.id);
            check(
                &golden,
                &name,
                gradient.unwrap_or_else(|| panic!("{file}: no {name}")),
                relative,
            );
            checked += 1;
        }
    }
    assert_eq!(
        checked,
        golden
            .0
            .keys()
            .filter(|name| name.starts_with("grad.param."))
            .count()
    );
}

const FILES: [&str; 11] = [
    "basic_downsample",
    "basic_identity",
    "basic_plain_downsample",
    "basic_upsample",
    "bottleneck_downsample",
    "bottleneck_identity",
    "bottleneck_plain_identity",
    "bottleneck_plain_upsample",
    "bottleneck_projection",
    "bottleneck_transposed_stride1",
    "bottleneck_upsample",
];

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
    let relative = 18f64.sqrt() * 2f64.powi(-8);
    FILES.iter().for_each(|file| {
        let device = Device::flex();
        check_block_with(file, &device, DType::F32, Precision::Bf16, relative);
    });
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
