//! How a block on some device is compared with a golden file; the tests are in `golden.rs`, and for GPUs' kernels in a workspace of
//! their own (`tests/kernels`). Whoever includes this says where the files are: `crate::golden_path`.

use std::collections::HashMap;

use burn::module::ModuleVisitor;
use burn::module::{Param, ParamId};
use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{
    BasicBlockConfig, Block, BottleneckConfig, Precision, Sampling, Shortcuts,
    map_named_parameters, named_parameters,
};

pub(crate) struct Golden(pub(crate) HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Golden {
    pub(crate) fn read(file: &str) -> Self {
        let path = crate::golden_path(file);
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

    pub(crate) fn data(&self, name: &str, dtype: DType) -> TensorData {
        let (shape, values) = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"));
        TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype)
    }
}

/// `true` where a norm follows the convolution, so that its bias has no influence.
pub(crate) fn has_zero_gradient(name: &str) -> bool {
    name.ends_with(".bias") && !name.ends_with("_norm.bias")
}

fn float64(data: TensorData) -> Vec<f64> {
    let data = data.convert_dtype(DType::F64);
    data.try_to_vec::<f64>().expect("float64")
}

fn distance_and_norm(golden: &Golden, name: &str, found: TensorData) -> (f64, f64) {
    let (_, expected) = &golden.0[name];
    let found = float64(found);
    assert_eq!(found.len(), expected.len(), "{name}");
    let distance = expected
        .iter()
        .zip(&found)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    let norm = expected.iter().map(|a| a * a).sum::<f64>().sqrt();
    (distance, norm)
}

pub(crate) fn check(golden: &Golden, name: &str, found: TensorData, relative: f64) {
    let (distance, norm) = distance_and_norm(golden, name, found.clone());
    if has_zero_gradient(name) && name.starts_with("grad") {
        let largest = float64(found)
            .iter()
            .fold(0.0f64, |largest, value| largest.max(value.abs()));
        assert!(
            largest <= 1e-4,
            "{name}: {largest} where the true gradient is zero"
        );
    } else {
        let is_close =
            distance <= relative * norm || (relative.is_infinite() && distance.is_finite());
        assert!(
            is_close,
            "{name}: off by {:e}, {relative:e} allowed",
            distance / norm
        );
    }
}

/// Gradients by parameter identifier.
pub(crate) struct Gradients<'a> {
    pub(crate) gradients: &'a burn::tensor::Gradients,
    pub(crate) found: HashMap<ParamId, TensorData>,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(param.id, gradient.into_data());
        }
    }
}

pub(crate) fn block(file: &str, precision: Precision, device: &Device) -> Block {
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

/// What may differ, as a relative L2 distance.
#[derive(Clone, Copy)]
pub(crate) struct Tolerances {
    pub(crate) forward: f64,
    /// A single tensor's gradient.
    pub(crate) gradient: f64,
    /// The input's gradient, and those of all parameters as one vector.
    pub(crate) whole_gradient: f64,
}

/// The golden files move running variances by the mean square about a batch's mean, and blocks by `n / (n - 1)` times that, as
/// PyTorch does: the share of the batch is divided by that factor again.
fn with_biased_variance(
    golden: &Golden,
    name: &str,
    found: TensorData,
    count: usize,
) -> TensorData {
    if !name.ends_with("running_var") {
        return found;
    }
    let shape = found.shape().to_vec();
    let found = found.convert_dtype(DType::F64).try_to_vec::<f64>();
    let before = golden.data(&format!("param.{name}"), DType::F64);
    let before = before.try_to_vec::<f64>().expect("float64");
    let factor = (count - 1) as f64 / count as f64;
    let values = found.expect("float64").into_iter().zip(before);
    let values = values.map(|(found, before)| 0.99 * before + (found - 0.99 * before) * factor);
    TensorData::new(values.collect::<Vec<f64>>(), shape)
}

pub(crate) fn check_block(file: &str, device: &Device, dtype: DType, relative: f64) {
    let tolerances = Tolerances {
        forward: relative,
        gradient: relative,
        whole_gradient: relative,
    };
    check_block_with(file, device, dtype, Precision::F32, tolerances);
}

pub(crate) fn check_block_with(
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
    // Every norm of a block is over maps of the output's size.
    let [batch, _, height, width] = output.dims();
    let output_count = batch * height * width;
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
        tolerances.whole_gradient,
    );

    let mut by_id = Gradients {
        gradients: &gradients,
        found: HashMap::new(),
    };
    block.visit(&mut by_id);
    let mut checked = 0;
    let (mut square_distance, mut square_norm) = (0.0, 0.0);
    for parameter in named_parameters(&block.valid()) {
        if parameter.name.contains("running") {
            check(
                &golden,
                &format!("after.{}", parameter.name),
                with_biased_variance(&golden, &parameter.name, parameter.data, output_count),
                tolerances.forward,
            );
        } else {
            let name = format!("grad.param.{}", parameter.name);
            let gradient = by_id.found.remove(&parameter.id);
            let gradient = gradient.unwrap_or_else(|| panic!("{file}: no {name}"));
            if !has_zero_gradient(&name) {
                let (distance, norm) = distance_and_norm(&golden, &name, gradient.clone());
                square_distance += distance.powi(2);
                square_norm += norm.powi(2);
            }
            check(&golden, &name, gradient, tolerances.gradient);
            checked += 1;
        }
    }
    let off_by = (square_distance / square_norm).sqrt();
    assert!(
        off_by <= tolerances.whole_gradient,
        "{file}: the gradient as one vector is off by {off_by:e}"
    );
    assert_eq!(
        checked,
        golden
            .0
            .keys()
            .filter(|name| name.starts_with("grad.param."))
            .count()
    );
}

pub(crate) const FILES: [&str; 11] = [
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
