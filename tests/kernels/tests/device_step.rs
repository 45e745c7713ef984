//! The device's own step on a Vulkan device, as in `vulkan.rs`, against Burn's operations on the reference backend, which share no code with it.

#[allow(dead_code)] // What Burn's operations are checked with.
#[path = "../../../crates/vae-core/tests/checks/golden.rs"]
mod autoencoder;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{map_named_parameters, named_parameters, parameter_names};
use vae_core::{Depth, DropoutMasks, Sampler, Shortcuts, Vae, VaeConfig};
use vae_device_step::{AdamOptions, DeviceStep, Outcome, StepInputs, StepOptions, StepRates};

const ADAM: AdamOptions = AdamOptions {
    beta_1: 0.9,
    beta_2: 0.999,
    epsilon: 1e-7,
};
const RATE: f64 = 1e-4;

fn vulkan() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

#[allow(deprecated)] // The reference backend until Burn removes it.
fn reference() -> Device {
    Device::ndarray()
}

fn golden_path(file: &str) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    format!("{folder}/../../crates/vae-core/tests/golden/{file}.safetensors")
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
        images: Tensor::from_data(images, (device, dtype)),
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
        is_captured,
    }
}

fn rates(kl_weight: f64) -> StepRates {
    StepRates {
        learning_rate: RATE,
        kl_weight,
        largest_norm: None,
    }
}

/// Asks for a step and waits.
fn step(engine: &mut DeviceStep, inputs: StepInputs, rates: StepRates) -> Outcome {
    let outcome = engine.step(inputs, rates).expect("a step");
    let outcome = outcome.wait().expect("an outcome");
    engine.observe(&outcome);
    outcome
}

fn float32(data: TensorData) -> Vec<f32> {
    let data = data.convert_dtype(DType::F32);
    data.try_to_vec::<f32>().expect("converted just now")
}

struct Gradients<'a> {
    gradients: &'a burn::tensor::Gradients,
    found: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients);
        self.found
            .push(gradient.map(|gradient| float32(gradient.into_data())));
    }
}

/// Terms of the loss and gradients by Burn's operations.
fn by_burn(
    model: &Vae,
    inputs: StepInputs,
    sampler: Sampler,
    kl_weight: f64,
) -> ([f64; 3], burn::tensor::Gradients) {
    let output = resnet_blocks::with_plain_blocks(|| {
        model.forward(inputs.images, inputs.noise, sampler, inputs.dropout)
    });
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
    let objective = terms.cross_entropy + terms.kl.mul_scalar(kl_weight) + terms.l2;
    (
        sums,
        resnet_blocks::with_plain_blocks(|| objective.mean().backward()),
    )
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

/// Biases before a norm: their gradient is zero but for rounding.
fn has_influence(name: &str) -> bool {
    let before_a_norm = ["reduce", "spatial", "expand", "shortcut", "dense"];
    !before_a_norm
        .iter()
        .any(|layer| name.ends_with(&format!("{layer}.bias")))
}

fn check_gradients(config: &VaeConfig, sampler: Sampler, kl_weight: f64) {
    let gradients_in = |dtype: DType| {
        let device = reference().autodiff();
        let model = model_of(config, &device, dtype);
        let inputs = batch_of(config, 5, 1, &device, dtype);
        let (terms, gradients) = by_burn(&model, inputs, sampler, kl_weight);
        let mut read = Gradients {
            gradients: &gradients,
            found: Vec::new(),
        };
        model.visit(&mut read);
        let found = read.found;
        (model, terms, found)
    };
    let (expected_model, terms, expected) = gradients_in(DType::F64);
    // What float32 makes of the same gradients by Burn's operations.
    let (_, _, rounded) = gradients_in(DType::F32);

    let on_device = model(config, &vulkan());
    let mut engine = DeviceStep::new(&on_device, options(sampler, false)).expect("known kernels");
    let inputs = batch(config, 5, 1, &vulkan());
    let outcome = step(&mut engine, inputs, rates(kl_weight));
    assert!(outcome.is_taken && outcome.not_finite.is_none() && outcome.updates == 1);
    for (found, expected) in [outcome.cross_entropy, outcome.kl, outcome.l2]
        .into_iter()
        .zip(terms)
    {
        assert!(close(found, expected, 1e-4), "{found} and {expected}");
    }
    let found = engine.gradients().expect("a device that works");
    let (mut all_found, mut all_expected, mut all_rounded) = (Vec::new(), Vec::new(), Vec::new());
    let mut square = 0.0;
    let mut checked = 0;
    let pairs = expected.into_iter().zip(rounded);
    for (parameter, pair) in parameter_names(&expected_model).iter().zip(pairs) {
        let (Some(expected), Some(rounded)) = pair else {
            continue;
        };
        let name = &parameter.name;
        // A dense layer's values lie in Burn's order on both sides.
        let found = &found[name];
        square += found
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>();
        if has_influence(name) {
            let of_rounding = distance(&rounded, &expected);
            let distance = distance(found, &expected);
            let allowed = autoencoder::FLOAT32.single_gradient.max(4.0 * of_rounding);
            assert!(
                distance < allowed,
                "{name}: {distance:e}, {of_rounding:e} by Burn's"
            );
            checked += 1;
            all_found.extend_from_slice(found);
            all_expected.extend(expected);
            all_rounded.extend(rounded);
        } else {
            assert!(found.iter().all(|value| *value == 0.0), "{name}");
        }
    }
    assert!(checked > 50, "{checked} parameters");
    let of_rounding = distance(&all_rounded, &all_expected);
    let distance = distance(&all_found, &all_expected);
    let allowed = autoencoder::FLOAT32.whole_gradient.max(4.0 * of_rounding);
    assert!(
        distance < allowed,
        "as one vector: {distance:e}, {of_rounding:e} by Burn's"
    );
    assert!(close(outcome.gradient_norm, square.sqrt(), 1e-5));
}

#[test]
fn gradients_are_those_of_burns_operations() {
    check_gradients(&config(Depth::Depth28), Sampler::Correct, 1.0);
    check_gradients(&config(Depth::Depth40), Sampler::Blog, 0.25);
    let plain = config(Depth::Depth40).with_shortcuts(Shortcuts::Plain);
    check_gradients(&plain, Sampler::Correct, 1.0);
}

#[test]
fn both_autoencoders_match_their_golden_files() {
    for (depth, file) in [
        (Depth::Depth28, "vae_depth28"),
        (Depth::Depth40, "vae_depth40"),
    ] {
        check_golden(depth, file);
    }
}

/// Terms, gradients and running statistics of one step, within the tolerances of float32.
fn check_golden(depth: Depth, file: &str) {
    let golden = autoencoder::Golden::read(file);
    let tolerances = &autoencoder::FLOAT32;
    let (device, dtype) = (vulkan(), DType::F32);
    let precision = vae_core::Precision::F32;
    let template = autoencoder::load(&golden, depth, &device, dtype, precision);
    let mut engine =
        DeviceStep::new(&template, options(Sampler::Correct, false)).expect("known kernels");
    let inputs = StepInputs {
        images: golden.tensor("images", &device, dtype),
        noise: golden.tensor("noise", &device, dtype),
        dropout: None,
    };
    let outcome = step(&mut engine, inputs, rates(1.0));
    let sum = |name: &str| golden.0[name].1.iter().sum::<f64>();
    for (found, expected) in [
        (outcome.cross_entropy, sum("train.nll")),
        (outcome.kl, sum("train.kl")),
        (outcome.l2, sum("train.l2")),
    ] {
        let error = (found / expected - 1.0).abs();
        assert!(error <= tolerances.forward, "{found} and {expected}");
    }
    let gradients = engine.gradients().expect("a device that works");
    let (mut whole_expected, mut whole_found) = (Vec::new(), Vec::new());
    for (name, found) in &gradients {
        let (shape, expected) = &golden.0[&format!("grad.{name}")];
        let mut found: Vec<f64> = found.iter().map(|value| f64::from(*value)).collect();
        if let [rows, columns] = shape[..] {
            // Burn keeps a dense layer's weight as `[in, out]`.
            let all = (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row));
            found = all.map(|position| found[position]).collect();
        }
        if autoencoder::norm(expected) < 1e-6 {
            let allowed = tolerances.zero_gradient_absolute;
            assert!(found.iter().all(|value| value.abs() <= allowed), "{name}");
            continue;
        }
        let error = autoencoder::distance(expected, &found) / autoencoder::norm(expected);
        assert!(error <= tolerances.single_gradient, "{name}: {error:e}");
        whole_expected.extend_from_slice(expected);
        whole_found.extend(found);
    }
    let error = autoencoder::distance(&whole_expected, &whole_found);
    let error = error / autoencoder::norm(&whole_expected);
    assert!(
        error <= tolerances.whole_gradient,
        "as one vector: {error:e}"
    );

    let after = named_parameters(&engine.model(template).expect("a device that works"));
    let mut checked = 0;
    for parameter in after {
        let Some((_, expected)) = golden.0.get(&format!("after.{}", parameter.name)) else {
            continue;
        };
        let mut found = autoencoder::values(parameter.data);
        if parameter.name.ends_with("running_var") {
            let before = &golden.0[&format!("param.{}", parameter.name)].1;
            autoencoder::as_in_the_files(&golden, &parameter.name, before, &mut found);
        }
        let error = autoencoder::distance(expected, &found) / autoencoder::norm(expected);
        assert!(error <= tolerances.forward, "{}: {error:e}", parameter.name);
        checked += 1;
    }
    assert!(checked > 20, "{checked} statistics");
}

fn values<M: Module>(model: &M) -> BTreeMap<String, Vec<f32>> {
    let named = named_parameters(model).into_iter();
    let values = named.map(|parameter| (parameter.name, float32(parameter.data)));
    values.collect()
}

#[test]
fn twenty_steps_are_those_of_burns_adam() {
    let config = config(Depth::Depth28);
    let mut expected = model(&config, &reference().autodiff());
    let mut adam = AdamConfig::new().with_epsilon(1e-7).init();
    let start = model(&config, &vulkan());
    let mut engine =
        DeviceStep::new(&start, options(Sampler::Correct, true)).expect("known kernels");
    let mut pending = Vec::new();
    for number in 0..20 {
        let inputs = batch(&config, 8, number, &reference().autodiff());
        let (terms, gradients) = by_burn(&expected, inputs, Sampler::Correct, 1.0);
        let gradients = GradientsParams::from_grads(gradients, &expected);
        expected = adam.step(RATE, expected, gradients);
        let inputs = batch(&config, 8, number, &vulkan());
        // As training does: a step's outcome is read after the next one has been asked for.
        pending.push((terms, engine.step(inputs, rates(1.0)).expect("a step")));
        if pending.len() > 1 {
            check_terms(&mut engine, pending.remove(0), number - 1);
        }
    }
    check_terms(&mut engine, pending.remove(0), 19);
    assert!(engine.is_captured(), "{:?}", engine.capture_failure());

    // Burn's modules share their running statistics with their clones.
    let other = model(&config, &vulkan());
    let found = values(&engine.model(other).expect("a device that works"));
    let before = values(&model(&config, &vulkan()));
    for (name, expected) in values(&expected.valid()) {
        if !has_influence(&name) {
            // Adam divides rounding by rounding: such a bias may move by a rate a step, and its norm takes it off again.
            continue;
        }
        let tolerance = if name.contains("running") { 5e-3 } else { 2e-2 };
        let moved = distance(&expected, &before[&name]);
        let distance = distance(&found[&name], &expected);
        assert!(
            distance < tolerance && distance < 0.2 * moved,
            "{name}: {distance:e} of {moved:e}"
        );
    }
}

fn check_terms(
    engine: &mut DeviceStep,
    (terms, pending): ([f64; 3], vae_device_step::Pending),
    number: usize,
) {
    let outcome = pending.wait().expect("an outcome");
    engine.observe(&outcome);
    assert_eq!(outcome.updates, number as u64 + 1);
    for (found, expected) in [outcome.cross_entropy, outcome.kl, outcome.l2]
        .into_iter()
        .zip(terms)
    {
        assert!(
            close(found, expected, 2e-3),
            "step {number}: {found} and {expected}"
        );
    }
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
