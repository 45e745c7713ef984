//! One evaluation and one training step of a small autoencoder by Burn's operations and those of the blocks, or with `own` three steps of the device's
//! own: `step cuda|vulkan f32|bf16 [own]`. Everything that they wrote is read. `step cuda f32|bf16 DEPTH BATCH` is the device's own step of a model of
//! full width.
//!
//! Where `STAND_IN_REPORT` names a file, the own steps are marked there by lines of their own.

use std::io::Write;

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use kernel_tests::WITH_KERNELS;
use resnet_blocks::{Activation, join, mean_in_fixed_order};
use vae_core::{Depth, Precision, Sampler, VaeConfig};
use vae_device_step::{AdamOptions, DeviceStep, StepInputs, StepOptions, StepRates, Weights};

/// Images of a batch of the small autoencoder.
const BATCH: usize = 4;

struct Read<'a> {
    gradients: &'a burn::tensor::Gradients,
    count: usize,
}

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            // Reading reports what went wrong on the way.
            drop(gradient.into_data());
            self.count += 1;
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "step cuda|vulkan f32|bf16 [own | 28|40|70|100 BATCH]";
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (device, precision, is_own, full) = match arguments[..] {
        [device, precision] => (device, precision, false, None),
        [device, precision, "own"] => (device, precision, true, None),
        [device, precision, depth, batch] => {
            let depth = match depth {
                "28" => Depth::Depth28,
                "40" => Depth::Depth40,
                "70" => Depth::Depth70,
                "100" => Depth::Depth100,
                _ => panic!("{usage}"),
            };
            let batch: usize = batch.parse().expect("a number of images");
            (device, precision, true, Some((depth, batch)))
        }
        _ => panic!("{usage}"),
    };
    let device = match device {
        "cuda" => Device::cuda(0),
        "vulkan" => kernel_tests::vulkan(),
        _ => panic!("{usage}"),
    };
    let precision = match precision {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => panic!("f32 or bf16, not {other}"),
    };
    // Depth 40 has identity blocks. Widths that vectors divide, as the model's own.
    let (config, batch) = match full {
        Some((depth, batch)) => (VaeConfig::preset(depth), batch),
        None => (
            VaeConfig::preset(Depth::Depth40)
                .with_stage_widths([8, 8, 16, 16])
                .with_intermediate_dim(256)
                .with_latent_dim(16),
            BATCH,
        ),
    };
    let config = config.with_precision(precision);
    let images = |device: &Device| Tensor::<4>::full([batch, 3, 32, 32], 0.25, device);
    let noise = |device: &Device| Tensor::<2>::full([batch, config.latent_dim], 0.5, device);

    if is_own {
        own_steps(&config, &device, images(&device), noise(&device), false);
        if full.is_none() {
            // The kernels of the other likelihoods and activations, of an average and of free bits.
            let activations = [
                Activation::Relu,
                Activation::Tanh,
                Activation::Silu,
                Activation::Gelu,
            ];
            let others = WITH_KERNELS[1..].iter().zip(activations.iter().cycle());
            for (likelihood, activation) in others {
                mark(likelihood);
                let config = config
                    .clone()
                    .with_likelihood(likelihood.parse().expect("a likelihood"))
                    .with_activation(*activation);
                own_steps(&config, &device, images(&device), noise(&device), true);
            }
        }
        return;
    }

    let autodiff = device.clone().autodiff();
    let vae = config.init(&autodiff);
    let output = vae
        .valid()
        .forward(images(&device), noise(&device), Sampler::Correct, None);
    println!(
        "evaluation: {}",
        mean_in_fixed_order(output.terms.loss()).into_scalar::<f32>()
    );

    let output = vae.forward(images(&autodiff), noise(&autodiff), Sampler::Correct, None);
    let loss = mean_in_fixed_order(output.terms.loss());
    println!("training: {}", loss.clone().into_scalar::<f32>());
    let gradients = loss.backward();
    let mut read = Read {
        gradients: &gradients,
        count: 0,
    };
    vae.visit(&mut read);
    println!("{} gradients", read.count);
}

/// Three steps and three evaluations: the first is launched, the second captured, the third replayed where the device can. With an average of the
/// weights, which is what is evaluated then, and free bits, where `has_more`.
fn own_steps(
    config: &VaeConfig,
    device: &Device,
    images: Tensor<4>,
    noise: Tensor<2>,
    has_more: bool,
) {
    let vae = config.init(device);
    let options = StepOptions {
        adam: AdamOptions {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
        },
        sampler: Sampler::Correct,
        average_decay: has_more.then_some(0.999),
        free_bits: has_more.then_some(0.1),
        is_recomputed: false,
        is_captured: true,
    };
    let mut engine = DeviceStep::new(&vae, options).expect("a model with known kernels");
    for number in 0..3 {
        mark(&format!("step {number}"));
        let inputs = StepInputs {
            images: images.clone().into(),
            noise: noise.clone(),
            dropout: None,
        };
        let rates = StepRates {
            learning_rate: 1e-3,
            kl_weights: [1.0; 4],
            largest_norm: None,
        };
        let outcome = engine.step(inputs, rates).expect("a step");
        mark("asked");
        let outcome = outcome.wait().expect("an outcome");
        engine.observe(&outcome).expect("all products");
        println!("step {number}: {outcome:?}");
    }
    let weights = if has_more {
        Weights::Averaged
    } else {
        Weights::Trained
    };
    let [batch_size, ..] = images.dims();
    for number in 0..3 {
        mark(&format!("evaluation {number}"));
        let terms = engine.evaluate(images.clone(), noise.clone(), weights, batch_size);
        let terms = terms.expect("an evaluation").wait();
        println!("evaluation {number}: {:?}", terms.expect("its terms"));
    }
    let mut evaluate = |images: Tensor<4>, noise: Tensor<2>, batch_size| {
        let terms = engine.evaluate(images, noise, weights, batch_size);
        terms.expect("an evaluation").wait().expect("its terms");
    };
    mark("fewer images");
    let fewer = batch_size / 2;
    let images_of = |count| images.clone().narrow(0, 0, count);
    evaluate(
        images_of(fewer),
        noise.clone().narrow(0, 0, fewer),
        batch_size,
    );
    mark("another size");
    // What was captured has to stay right: the pools grow, and move what lies in them before the next capture.
    drop(Tensor::<1>::zeros([1 << 27], device).into_data());
    let images = join(vec![images.clone(), images_of(1)], 0);
    let noise = join(vec![noise.clone(), noise.narrow(0, 0, 1)], 0);
    for _ in 0..3 {
        evaluate(images.clone(), noise.clone(), batch_size + 1);
    }
    mark("end");
    println!(
        "{} bytes, captured: {} {:?}",
        engine.bytes(),
        engine.is_captured(),
        engine.capture_failure()
    );
}

/// A line between those of the driver.
fn mark(text: &str) {
    let Some(path) = std::env::var_os("STAND_IN_REPORT") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    writeln!(file.expect("the report"), "{text}").expect("a line written");
}
