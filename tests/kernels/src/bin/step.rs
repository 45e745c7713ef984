//! One evaluation and one training step of a small autoencoder: `step cuda|vulkan f32|bf16`. Every kernel of the blocks, of the dense layers and of the
//! loss runs at least once, and everything that it wrote is read.

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use vae_core::{Depth, Precision, Sampler, VaeConfig};

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
    let (device, precision) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cuda", precision] => (Device::cuda(0), precision),
        ["vulkan", precision] => (Device::wgpu(DeviceKind::DefaultDevice), precision),
        _ => panic!("step cuda|vulkan f32|bf16"),
    };
    let precision = match precision {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => panic!("f32 or bf16, not {other}"),
    };
    // Depth 40 has identity blocks. Widths that vectors divide, as the model's own.
    let config = VaeConfig::preset(Depth::Depth40)
        .with_stage_widths([8, 8, 16, 16])
        .with_intermediate_dim(256)
        .with_latent_dim(16)
        .with_precision(precision);
    let autodiff = device.clone().autodiff();
    let vae = config.init(&autodiff);
    let images = |device: &Device| Tensor::<4>::full([BATCH, 3, 32, 32], 0.25, device);
    let noise = |device: &Device| Tensor::<2>::full([BATCH, 16], 0.5, device);

    let output = vae
        .valid()
        .forward(images(&device), noise(&device), Sampler::Correct, None);
    println!(
        "evaluation: {}",
        output.terms.loss().mean().into_scalar::<f32>()
    );

    let output = vae.forward(images(&autodiff), noise(&autodiff), Sampler::Correct, None);
    let loss = output.terms.loss().mean();
    println!("training: {}", loss.clone().into_scalar::<f32>());
    let gradients = loss.backward();
    let mut read = Read {
        gradients: &gradients,
        count: 0,
    };
    vae.visit(&mut read);
    println!("{} gradients", read.count);
}
