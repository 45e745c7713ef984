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
//! of units, so single tensors, some of four numbers, are allowed four times as much.

use std::collections::HashMap;

use burn::module::ModuleVisitor;
use burn::module::{Param, ParamId};
use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{
    Activation, BasicBlockConfig, Block, BottleneckConfig, Precision, Sampling, Shortcuts,
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

/// What may differ, as a relative L2 distance a tensor.
#[derive(Clone, Copy)]
struct Tolerances {
    forward: f64,
    gradient: f64,
}

fn check_block(file: &str, device: &Device, dtype: DType, relative: f64) {
    let tolerances = Tolerances {
        forward: relative,
        gradient: relative,
    };
    check_block_with(file, device, dtype, Precision::F32, tolerances);
}

fn check_block_with(
    file: &str,
    device: &Device,
    dtype: DType,
    precision: Precision,
    tolerances: Tolerances,
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
        tolerances.forward,
    );

    let input =
        Tensor::<4>::from_data(golden.data("input", dtype), (&device, dtype)).require_grad();
    let output = block.forward(input.clone());
    check(
        &golden,
        "output.train",
        output.clone().inner().into_data(),
        tolerances.forward,
    );

    let weight = Tensor::<4>::from_data(golden.data("grad.output", dtype), (&device, dtype));
    let gradients = (output * weight).sum().backward();
    let input_gradient = input
        .grad(&gradients)
        .expect("a gradient reaches the input");
    check(
        &golden,
        "grad.input",
        input_gradient.into_data(),
        tolerances.gradient,
    );

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
                tolerances.forward,
            );
        } else {
            let name = format!("grad.param.{}", parameter.name);
            let gradient = by_id.found.remove(&parameter.id);
            check(
                &golden,
                &name,
                gradient.unwrap_or_else(|| panic!("{file}: no {name}")),
                tolerances.gradient,
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
    let unit = 2f64.powi(-8);
    let expected = 9f64.sqrt() * unit / 2.0;
    let tolerances = Tolerances {
        forward: 2.0 * expected,
        gradient: 4.0 * (3.0 * expected / std::f64::consts::PI).sqrt(),
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

/// The first Vulkan device: a card, or Mesa's lavapipe, which computes on the processor.
#[cfg(feature = "vulkan")]
fn vulkan() -> Device {
    Device::vulkan(DeviceKind::DefaultDevice)
}

#[test]
#[cfg(feature = "vulkan")]
fn every_block_matches_in_float32_on_vulkan() {
    FILES
        .iter()
        .for_each(|file| check_block(file, &vulkan(), DType::F32, 1e-4));
}
