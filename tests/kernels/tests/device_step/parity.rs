//! Gradients, running statistics and updates against Burn's operations and the golden files.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::DType;
use kernel_tests::WITH_KERNELS;
use resnet_blocks::{Activation, named_parameters, parameter_names};
use vae_core::{Depth, Likelihood, Sampler, Shortcuts, Vae, VaeConfig};
use vae_device_step::{DeviceStep, Outcome, StepInputs, StepOptions};

use crate::{
    RATE, autoencoder, batch, batch_of, by_autodiff, by_burn, close, config, distance, float32,
    model, model_of, options, rates, reference, step, values, vulkan, wave,
};

/// Biases before a norm: their gradient is zero but for rounding.
fn has_influence(name: &str) -> bool {
    let before_a_norm = ["reduce", "spatial", "expand", "shortcut", "dense"];
    !before_a_norm
        .iter()
        .any(|layer| name.ends_with(&format!("{layer}.bias")))
}

/// Terms and gradients of a model by Burn's autodiff.
type ByAutodiff =
    fn(&Vae, StepInputs, Sampler, f64, Option<f64>) -> ([f64; 3], burn::tensor::Gradients);

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

fn check_gradients(config: &VaeConfig, sampler: Sampler, kl_weight: f64) {
    let options = options(sampler, false);
    check_gradients_with(config, options, kl_weight);
}

/// The outcome too, for whoever wants more of it.
pub(crate) fn check_gradients_with(
    config: &VaeConfig,
    options: StepOptions,
    kl_weight: f64,
) -> Outcome {
    let sampler = options.sampler;
    let gradients_in = |dtype: DType, by: ByAutodiff| {
        let device = reference().autodiff();
        let model = model_of(config, &device, dtype);
        let inputs = batch_of(config, 5, 1, &device, dtype);
        let (terms, gradients) = by(&model, inputs, sampler, kl_weight, options.free_bits);
        let mut read = Gradients {
            gradients: &gradients,
            found: Vec::new(),
        };
        model.visit(&mut read);
        let found = read.found;
        (model, terms, found)
    };
    let (expected_model, terms, expected) = gradients_in(DType::F64, by_burn);
    // What float32 makes of the same gradients, by Burn's operations and by the blocks' on processors: deep networks without shortcuts magnify rounding,
    // and no two ways of computing err alike.
    let (_, _, rounded) = gradients_in(DType::F32, by_burn);
    let (_, _, by_blocks) = gradients_in(DType::F32, by_autodiff);

    let on_device = model(config, &vulkan());
    let mut engine = DeviceStep::new(&on_device, options).expect("known kernels");
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
    let [
        mut all_found,
        mut all_expected,
        mut all_rounded,
        mut all_by_blocks,
    ] = [const { Vec::new() }; 4];
    let mut square = 0.0;
    let mut checked = 0;
    let pairs = expected.into_iter().zip(rounded).zip(by_blocks);
    for (parameter, (pair, by_blocks)) in parameter_names(&expected_model).iter().zip(pairs) {
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
            // The blocks leave out what rounding alone makes.
            let by_blocks = by_blocks.unwrap_or_else(|| rounded.clone());
            let of_rounding = distance(&rounded, &expected).max(distance(&by_blocks, &expected));
            let distance = distance(found, &expected);
            let allowed = autoencoder::FLOAT32.single_gradient.max(4.0 * of_rounding);
            assert!(
                distance < allowed,
                "{name}: {distance:e}, {of_rounding:e} on processors"
            );
            checked += 1;
            all_found.extend_from_slice(found);
            all_expected.extend(expected);
            all_rounded.extend(rounded);
            all_by_blocks.extend(by_blocks);
        } else {
            assert!(found.iter().all(|value| *value == 0.0), "{name}");
        }
    }
    assert!(checked > 50, "{checked} parameters");
    let of_rounding = [&all_rounded, &all_by_blocks].map(|all| distance(all, &all_expected));
    println!("of rounding, by Burn's operations and the blocks': {of_rounding:?}");
    let of_rounding = of_rounding[0].max(of_rounding[1]);
    let distance = distance(&all_found, &all_expected);
    let allowed = autoencoder::FLOAT32.whole_gradient.max(4.0 * of_rounding);
    assert!(
        distance < allowed,
        "as one vector: {distance:e}, {of_rounding:e} on processors"
    );
    assert!(close(outcome.gradient_norm, square.sqrt(), 1e-5));
    outcome
}

/// Those over grey levels.
fn likelihoods() -> impl Iterator<Item = Likelihood> {
    let names = WITH_KERNELS.into_iter().chain(["logistic-mixture:1"]);
    names
        .map(|name| name.parse::<Likelihood>().expect("a likelihood"))
        .filter(|likelihood| likelihood.is_over_levels())
}

#[test]
fn gradients_are_those_of_burns_operations() {
    check_gradients(&config(Depth::Depth28), Sampler::Correct, 1.0);
    check_gradients(&config(Depth::Depth40), Sampler::Blog, 0.25);
    let plain = config(Depth::Depth40).with_shortcuts(Shortcuts::Plain);
    check_gradients(&plain, Sampler::Correct, 1.0);
}

#[test]
fn gradients_of_every_likelihood_and_activation_are_those_of_burns_operations() {
    let activations = [
        Activation::Gelu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Relu,
        Activation::Sigmoid,
    ];
    for (likelihood, activation) in likelihoods().zip(activations.into_iter().cycle()) {
        let config = config(Depth::Depth28)
            .with_likelihood(likelihood)
            .with_activation(activation);
        check_gradients(&config, Sampler::Correct, 1.0);
    }
}

#[test]
fn far_off_parameters_cost_what_they_do_in_float64() {
    for likelihood in likelihoods() {
        let config = config(Depth::Depth28).with_likelihood(likelihood);
        let with_far_bias = |model: Vae, dtype: DType| {
            let mut far = model.decoder.output.bias.val();
            let len = far.dims()[0];
            let values: Vec<f32> = wave(len, 9)
                .iter()
                .map(|value| 60.0 * value - 30.0)
                .collect();
            let data = TensorData::new(values, [len]).convert_dtype(dtype);
            far = Tensor::from_data(data, (&far.device(), dtype));
            let mut model = model;
            model.decoder.output.bias = Param::from_tensor(far);
            model
        };
        let device = reference().autodiff();
        let expected = with_far_bias(model(&config, &device), DType::F64);
        let inputs = batch(&config, 4, 2, &device);
        let ([expected, ..], _) = by_burn(&expected, inputs, Sampler::Correct, 1.0, None);
        let start = with_far_bias(model(&config, &vulkan()), DType::F32);
        let options = options(Sampler::Correct, false);
        let mut engine = DeviceStep::new(&start, options).expect("known kernels");
        let inputs = batch(&config, 4, 2, &vulkan());
        let outcome = step(&mut engine, inputs, rates(1.0));
        assert!(
            close(outcome.cross_entropy, expected, 1e-4) && outcome.is_taken,
            "{likelihood}: {} and {expected}",
            outcome.cross_entropy
        );
    }
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
        images: golden.tensor("images", &device, dtype).into(),
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
        let inputs = batch(&config, 4, number, &reference().autodiff());
        let (terms, gradients) = by_burn(&expected, inputs, Sampler::Correct, 1.0, None);
        let gradients = GradientsParams::from_grads(gradients, &expected);
        expected = adam.step(RATE, expected, gradients);
        let inputs = batch(&config, 4, number, &vulkan());
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
    engine.observe(&outcome).expect("all products");
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
