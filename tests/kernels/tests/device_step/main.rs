//! The device's own step on a Vulkan device, as in `vulkan.rs`, against Burn's operations on the reference backend, which share no code with it.

#[allow(dead_code)] // What Burn's operations are checked with.
#[path = "../../../../crates/vae-core/tests/checks/golden.rs"]
mod autoencoder;

#[allow(dead_code)] // Images and samples.
#[path = "../../../../crates/vae-core/tests/golden2/golden_file.rs"]
mod golden_file;
#[path = "../../../../crates/vae-core/tests/golden2/tolerances.rs"]
mod tolerances;

mod adam_curve;
mod draws;
mod evaluation;
mod likelihoods;
mod objective;
mod parity;
mod resident;
mod shards;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::prelude::*;
use burn::tensor::DType;
use kernel_tests::vulkan;
use resnet_blocks::{NamedParameter, map_named_parameters, named_parameters};
use vae_core::{Depth, DropoutMasks, Sampler, Vae, VaeConfig};
use vae_device_step::{AdamOptions, DeviceStep, Outcome, StepInputs, StepOptions, StepRates};

const ADAM: AdamOptions = AdamOptions {
    beta_1: 0.9,
    beta_2: 0.999,
    epsilon: 1e-7,
};
const RATE: f64 = 1e-4;

/// In float64 all of it is Burn's own operations there.
fn reference() -> Device {
    Device::flex()
}

fn golden_path(file: &str) -> String {
    let package = env!("CARGO_MANIFEST_DIR");
    let folder = match file {
        "likelihoods" => "golden2",
        _ => "golden",
    };
    format!("{package}/../../crates/vae-core/tests/{folder}/{file}.safetensors")
}

fn config(depth: Depth) -> VaeConfig {
    VaeConfig::preset(depth)
        .with_stage_widths([4, 4, 8, 8])
        .with_intermediate_dim(16)
        .with_latent_dim(6)
}

/// Different in every step and place, and the same on every device.
fn wave(count: usize, step: usize) -> Vec<f32> {
    (0..count)
        .map(|index| (((index * 7919 + step * 104_729) % 1009) as f32 / 1009.0).fract())
        .collect()
}

/// A model with values that are no start: biases, scales and running statistics too. On the reference device in float64.
fn model(config: &VaeConfig, device: &Device) -> Vae {
    model_of(config, device, usual_type(device))
}

fn usual_type(device: &Device) -> DType {
    if *device == vulkan() {
        DType::F32
    } else {
        DType::F64
    }
}

fn model_of(config: &VaeConfig, device: &Device, dtype: DType) -> Vae {
    let mut count = 0;
    map_named_parameters(config.init(device), |name, shape| {
        count += 1;
        let len = shape.iter().product::<usize>();
        let fan: usize = shape.iter().skip(1).product::<usize>().max(1);
        let values: Vec<f32> = wave(len, count)
            .into_iter()
            .map(|value| match () {
                () if name.ends_with("norm.weight") => 0.5 + value,
                () if name.ends_with("running_var") => 0.5 + value,
                () if shape.len() == 1 => 0.4 * (value - 0.5),
                () => 3.0 * (value - 0.5) / (fan as f32).sqrt(),
            })
            .collect();
        Some(TensorData::new(values, shape.to_vec()).convert_dtype(dtype))
    })
}

fn batch(config: &VaeConfig, len: usize, step: usize, device: &Device) -> StepInputs {
    batch_of(config, len, step, device, usual_type(device))
}

fn batch_of(
    config: &VaeConfig,
    len: usize,
    step: usize,
    device: &Device,
    dtype: DType,
) -> StepInputs {
    let uniform = |features: usize, salt: usize| {
        let values = wave(len * features, step + 31 * salt);
        let data = TensorData::new(values, [len, features]).convert_dtype(dtype);
        Tensor::<2>::from_data(data, (device, dtype))
    };
    let images = TensorData::new(wave(len * 3 * 1024, step), [len, 3, 32, 32]);
    let images = images.convert_dtype(dtype);
    let intermediate = 16;
    let masks = DropoutMasks::from_uniform(
        uniform(config.positions() * intermediate, 2),
        uniform(intermediate, 3),
        0.2,
    );
    StepInputs {
        images: Tensor::<4>::from_data(images, (device, dtype)).into(),
        noise: uniform(6, 1).sub_scalar(0.5).mul_scalar(3.0),
        dropout: Some(DropoutMasks {
            encoder: masks.encoder.cast(dtype),
            decoder: masks.decoder.cast(dtype),
        }),
    }
}

fn options(sampler: Sampler, is_captured: bool) -> StepOptions {
    StepOptions {
        adam: ADAM,
        sampler,
        average_decay: None,
        free_bits: None,
        is_recomputed: false,
        is_captured,
    }
}

fn rates(kl_weight: f64) -> StepRates {
    StepRates {
        learning_rate: RATE,
        kl_weights: [kl_weight; 4],
        largest_norm: None,
    }
}

/// Asks for a step and waits.
fn step(engine: &mut DeviceStep, inputs: StepInputs, rates: StepRates) -> Outcome {
    let outcome = engine.step(inputs, rates).expect("a step");
    let outcome = outcome.wait().expect("an outcome");
    engine.observe(&outcome).expect("all products");
    outcome
}

fn float32(data: TensorData) -> Vec<f32> {
    let data = data.convert_dtype(DType::F32);
    data.try_to_vec::<f32>().expect("converted just now")
}

/// Terms of the loss and gradients by Burn's operations.
fn by_burn(
    model: &Vae,
    inputs: StepInputs,
    sampler: Sampler,
    kl_weight: f64,
    free_bits: Option<f64>,
) -> ([f64; 3], burn::tensor::Gradients) {
    resnet_blocks::with_plain_blocks(|| by_autodiff(model, inputs, sampler, kl_weight, free_bits))
}

/// As [`by_burn`], by whatever form of the blocks the device has.
fn by_autodiff(
    model: &Vae,
    inputs: StepInputs,
    sampler: Sampler,
    kl_weight: f64,
    free_bits: Option<f64>,
) -> ([f64; 3], burn::tensor::Gradients) {
    let output = model.forward(
        inputs.images.tensor(),
        inputs.noise,
        sampler,
        inputs.dropout,
    );
    let terms = output.terms;
    let read = |tensor: Tensor<1>| {
        let data = tensor.into_data().convert_dtype(DType::F64);
        data.try_to_vec::<f64>().expect("converted just now")
    };
    let sums = [
        read(terms.cross_entropy.clone()).iter().sum(),
        read(terms.kl.clone()).iter().sum(),
        read(terms.l2.clone())[0],
    ];
    let kl = match free_bits {
        None => terms.kl.mean(),
        Some(free) => {
            let means = output.posterior.kl_per_dimension().mean_dim(0);
            means.clamp_min(free).sum()
        }
    };
    let objective = (terms.cross_entropy + terms.l2).mean() + kl.mul_scalar(kl_weight);
    (sums, objective.backward())
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |value: f64| value * value;
    let difference = found.iter().zip(expected);
    let difference: f64 = difference.map(|(a, b)| square(f64::from(a - b))).sum();
    let size: f64 = expected.iter().map(|value| square(f64::from(*value))).sum();
    difference.sqrt() / size.sqrt().max(1e-3)
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

fn values<M: Module>(model: &M) -> BTreeMap<String, Vec<f32>> {
    let named = named_parameters(model).into_iter();
    let values = named.map(|parameter| (parameter.name, float32(parameter.data)));
    values.collect()
}

/// Values by name, each with its shape, in PyTorch's layouts.
fn with_shapes<M: Module>(model: &M) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let named = named_parameters(model).into_iter();
    let values = named.map(|NamedParameter { name, data, .. }| {
        let shape = data.shape().to_vec();
        (name, (shape, float32(data)))
    });
    values.collect()
}

/// Everything that a step may change, to the bit.
fn bits(engine: &DeviceStep, config: &VaeConfig) -> Vec<(String, Vec<u32>)> {
    let other = model(config, &vulkan());
    let model = engine.model(other).expect("a device that works");
    let moments = engine.moments().expect("a device that works").into_iter();
    let moments = moments.map(|(name, (_, values))| (name, values));
    let all = values(&model).into_iter().chain(moments);
    let bits = all.map(|(name, values)| (name, values.into_iter().map(f32::to_bits).collect()));
    bits.collect()
}

#[test]
fn a_step_that_is_not_finite_changes_nothing_and_says_where() {
    let config = config(Depth::Depth28);
    let template = model(&config, &vulkan());
    let options = options(Sampler::Correct, true);
    let mut engine = DeviceStep::new(&template, options).expect("known kernels");
    let mut other = DeviceStep::new(&template, options).expect("known kernels");
    for number in 0..6 {
        let inputs = batch(&config, 3, number, &vulkan());
        let good = step(&mut engine, inputs, rates(1.0));
        let same = step(&mut other, batch(&config, 3, number, &vulkan()), rates(1.0));
        assert_eq!(good, same, "what was skipped leaves no trace");
        let before = bits(&engine, &config);
        let mut inputs = batch(&config, 3, number, &vulkan());
        inputs.noise = inputs.noise.mul_scalar(f32::NAN);
        let lost = step(&mut engine, inputs, rates(1.0));
        assert!(!lost.is_taken && lost.cross_entropy.is_nan(), "{lost:?}");
        // The KL divergence does not depend on the draw.
        assert!(lost.kl.is_finite());
        let first = lost.not_finite.expect("a parameter");
        assert!(first.starts_with("encoder.stages.0.0."), "{first}");
        assert_eq!(lost.updates, good.updates);
        assert!(before == bits(&engine, &config), "nothing has changed");
        let too_long = StepRates {
            largest_norm: Some(good.gradient_norm / 100.0),
            ..rates(1.0)
        };
        let skipped = step(&mut engine, batch(&config, 3, number, &vulkan()), too_long);
        assert!(!skipped.is_taken && skipped.not_finite.is_none());
        assert!(before == bits(&engine, &config), "nothing has changed");
    }
    assert!(bits(&engine, &config) == bits(&other, &config));
}

#[test]
fn replayed_steps_have_the_bits_of_launched_ones_and_so_has_a_resumed_run() {
    let config = config(Depth::Depth28);
    let template = model(&config, &vulkan());
    let run = |is_captured: bool, resumed_at: Option<usize>| {
        let options = options(Sampler::Correct, is_captured);
        let mut engine = DeviceStep::new(&template, options).expect("known kernels");
        let mut outcomes = Vec::new();
        for number in 0..8 {
            if resumed_at == Some(number) {
                let moments = engine.moments().expect("a device that works");
                let other = model(&config, &vulkan());
                let model = engine.model(other).expect("a device that works");
                engine = DeviceStep::new(&model, options).expect("known kernels");
                assert!(engine.restore(number as u64, &moments));
            }
            // Two sizes of batch, as at the end of an epoch.
            let len = if number % 4 == 3 { 2 } else { 3 };
            let inputs = batch(&config, len, number, &vulkan());
            outcomes.push(step(&mut engine, inputs, rates(1.0)));
        }
        assert_eq!(
            engine.is_captured(),
            is_captured,
            "{:?}",
            engine.capture_failure()
        );
        (outcomes, bits(&engine, &config))
    };
    let launched = run(false, None);
    let replayed = run(true, None);
    assert_eq!(launched.0, replayed.0, "replayed");
    let pairs = launched.1.iter().zip(&replayed.1);
    let different: Vec<&str> = pairs
        .filter(|(launched, replayed)| launched != replayed)
        .map(|(launched, _)| launched.0.as_str())
        .collect();
    assert_eq!(different, [""; 0], "replayed");
    assert!(launched == run(true, Some(5)), "resumed");
}
