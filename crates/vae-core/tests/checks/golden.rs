//! How an autoencoder on some device is compared with a golden file; the tests are in `golden.rs`, and for GPUs' kernels in a workspace of
//! their own (`tests/kernels`). Whoever includes this says where the files are: `crate::golden_path`.

use std::collections::HashMap;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::{DType, Gradients};
use resnet_blocks::{map_named_parameters, named_parameters};
use vae_core::{Depth, Precision, Sampler, Vae, VaeConfig, VaeOutput};

/// Tensors of a golden file by name: shape and values.
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

    pub(crate) fn tensor<const D: usize>(
        &self,
        name: &str,
        device: &Device,
        dtype: DType,
    ) -> Tensor<D> {
        Tensor::from_data(self.data(name, dtype), (device, dtype))
    }

    pub(crate) fn check<const D: usize>(&self, name: &str, found: Tensor<D>, relative: f64) {
        let found = values(found.into_data());
        let expected = &self.0[name].1;
        let error = distance(expected, &found) / norm(expected);
        assert!(
            error <= relative,
            "{name}: off by {error:e}, {relative:e} allowed"
        );
    }
}

pub(crate) fn values(data: TensorData) -> Vec<f64> {
    data.convert_dtype(DType::F64)
        .try_to_vec()
        .expect("float64")
}

pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

pub(crate) fn distance(expected: &[f64], found: &[f64]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let differences: Vec<f64> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
    norm(&differences)
}

/// What may differ, as a relative L2 distance unless said otherwise.
pub(crate) struct Tolerances {
    pub(crate) forward: f64,
    pub(crate) whole_gradient: f64,
    pub(crate) single_gradient: f64,
    pub(crate) zero_gradient_absolute: f64,
}

pub(crate) const FLOAT64: Tolerances = Tolerances {
    forward: 1e-5,
    whole_gradient: 1e-5,
    single_gradient: 1e-5,
    zero_gradient_absolute: 1e-8,
};

pub(crate) const FLOAT32: Tolerances = Tolerances {
    forward: 1e-4,
    whole_gradient: 5e-3,
    single_gradient: 5e-2,
    zero_gradient_absolute: 2e-3,
};

pub(crate) const BFLOAT16: Tolerances = Tolerances {
    forward: 3.6e-2,
    whole_gradient: 0.31,
    single_gradient: f64::INFINITY,
    zero_gradient_absolute: 2e-3,
};

pub(crate) fn load(
    golden: &Golden,
    depth: Depth,
    device: &Device,
    dtype: DType,
    precision: Precision,
) -> Vae {
    let mut loaded = 0;
    let vae = VaeConfig::preset(depth)
        .with_stage_widths([4, 6, 8, 10])
        .with_intermediate_dim(64)
        .with_latent_dim(12)
        .with_precision(precision)
        .init(device);
    let vae = map_named_parameters(vae, |name, _| {
        loaded += 1;
        Some(golden.data(&format!("param.{name}"), dtype))
    });
    let stored = golden
        .0
        .keys()
        .filter(|name| name.starts_with("param."))
        .count();
    assert_eq!(loaded, stored, "every stored parameter has a place");
    vae
}

pub(crate) fn pass(
    vae: &Vae,
    golden: &Golden,
    device: &Device,
    dtype: DType,
    sampler: Sampler,
) -> VaeOutput {
    let images = golden.tensor("images", device, dtype);
    let noise = golden.tensor("noise", device, dtype);
    vae.forward(images, noise, sampler, None)
}

pub(crate) fn check_output(golden: &Golden, prefix: &str, output: &VaeOutput, relative: f64) {
    let check = |name: &str| golden.0.contains_key(&format!("{prefix}.{name}"));
    let name = |name: &str| format!("{prefix}.{name}");
    if check("mean") {
        golden.check(&name("mean"), output.posterior.mean.clone(), relative);
        golden.check(
            &name("log_variance"),
            output.posterior.log_variance.clone(),
            relative,
        );
        golden.check(&name("logits"), output.logits.clone(), relative);
        golden.check(&name("kl"), output.terms.kl.clone(), relative);
        golden.check(
            &name("l2"),
            output.terms.l2.clone().narrow(0, 0, 1),
            relative,
        );
    }
    golden.check(&name("z"), output.latent.clone(), relative);
    golden.check(&name("nll"), output.terms.cross_entropy.clone(), relative);
    golden.check(&name("loss"), output.terms.loss().mean(), relative);
}

pub(crate) struct ById<'a> {
    gradients: &'a Gradients,
    found: HashMap<ParamId, TensorData>,
}

impl ModuleVisitor for ById<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let gradient = if D == 2 {
                gradient.swap_dims(0, 1)
            } else {
                gradient
            };
            self.found.insert(param.id, gradient.into_data());
        }
    }
}

pub(crate) fn check_gradients(
    golden: &Golden,
    vae: &Vae,
    gradients: &Gradients,
    tolerances: &Tolerances,
) {
    let mut by_id = ById {
        gradients,
        found: HashMap::new(),
    };
    vae.visit(&mut by_id);
    let (mut whole_expected, mut whole_found) = (Vec::new(), Vec::new());
    for parameter in named_parameters(vae) {
        let name = format!("grad.{}", parameter.name);
        let Some((_, expected)) = golden.0.get(&name) else {
            assert!(name.contains("running"), "no golden `{name}`");
            continue;
        };
        let found = values(
            by_id
                .found
                .remove(&parameter.id)
                .unwrap_or_else(|| panic!("no {name}")),
        );
        if norm(expected) < 1e-6 {
            let largest = found
                .iter()
                .fold(0.0f64, |largest, value| largest.max(value.abs()));
            let allowed = tolerances.zero_gradient_absolute;
            assert!(
                largest <= allowed,
                "{name}: {largest:e} where the true gradient is zero"
            );
        } else {
            let error = distance(expected, &found) / norm(expected);
            assert!(
                error <= tolerances.single_gradient,
                "{name}: off by {error:e}"
            );
            whole_expected.extend_from_slice(expected);
            whole_found.extend(found);
        }
    }
    let error = distance(&whole_expected, &whole_found) / norm(&whole_expected);
    assert!(
        error <= tolerances.whole_gradient,
        "the gradient as one vector is off by {error:e}"
    );
    assert!(by_id.found.is_empty());
}

/// Values of an image that a norm takes its statistics over: the positions of its maps.
fn positions(name: &str) -> usize {
    let parts: Vec<&str> = name.split('.').collect();
    let side = match parts[..] {
        ["encoder", "dense_norm", ..] => 4,
        ["decoder", "dense_norm", ..] => 1,
        ["encoder", "stages", stage, ..] => 32 >> stage.parse::<usize>().expect("a number"),
        ["decoder", "stages", stage, ..] => 4 << stage.parse::<usize>().expect("a number"),
        _ => panic!("`{name}` belongs to no norm"),
    };
    side * side
}

/// A running variance as the files have it: they move it by the mean square about a batch's mean, and the model, as PyTorch does, by
/// `n / (n - 1)` times that.
pub(crate) fn as_in_the_files(golden: &Golden, name: &str, before: &[f64], found: &mut [f64]) {
    let count = golden.0["images"].0[0] * positions(name);
    let factor = (count - 1) as f64 / count as f64;
    for (found, before) in found.iter_mut().zip(before) {
        *found = 0.99 * before + (*found - 0.99 * before) * factor;
    }
}

pub(crate) fn check_values_and_gradients(
    depth: Depth,
    file: &str,
    device: Device,
    dtype: DType,
    tolerances: &Tolerances,
) {
    check_with_precision(depth, file, device, dtype, Precision::F32, tolerances);
}

pub(crate) fn check_with_precision(
    depth: Depth,
    file: &str,
    device: Device,
    dtype: DType,
    precision: Precision,
    tolerances: &Tolerances,
) {
    let golden = Golden::read(file);
    let autodiff = device.clone().autodiff();
    let vae = load(&golden, depth, &autodiff, dtype, precision);

    let plain = vae.valid();
    for (prefix, sampler) in [("eval", Sampler::Correct), ("blog_eval", Sampler::Blog)] {
        let output = pass(&plain, &golden, &device, dtype, sampler);
        check_output(&golden, prefix, &output, tolerances.forward);
    }

    let output = pass(&vae, &golden, &autodiff, dtype, Sampler::Correct);
    check_output(&golden, "train", &output, tolerances.forward);
    let gradients = output.terms.loss().mean().backward();
    check_gradients(&golden, &vae, &gradients, tolerances);

    let mut running = 0;
    for parameter in named_parameters(&vae.valid()) {
        let name = format!("after.{}", parameter.name);
        if let Some((_, expected)) = golden.0.get(&name) {
            let mut found = values(parameter.data);
            if name.ends_with("running_var") {
                let (_, before) = &golden.0[&format!("param.{}", parameter.name)];
                as_in_the_files(&golden, &parameter.name, before, &mut found);
            }
            let error = distance(expected, &found) / norm(expected);
            assert!(error <= tolerances.forward, "{name}: off by {error:e}");
            running += 1;
        }
    }
    assert_eq!(
        running,
        golden
            .0
            .keys()
            .filter(|name| name.starts_with("after."))
            .count()
    );
}
