//! Overfits a small autoencoder to eight images of stripes and prints the loss, term by term.
//!
//! `cargo run -p vae-core --example reconstruct`

use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use vae_core::{Depth, Sampler, VaeConfig};

fn main() {
    let device = Device::flex().autodiff();
    let config = VaeConfig::preset(Depth::Depth28)
        .with_width_multiplier(0.03)
        .with_latent_dim(4);
    let mut vae = config.init(&device);
    let mut adam = AdamConfig::new().with_epsilon(1e-7).init();

    // Stripes of eight widths: grey level 0.9 or 0.1.
    let pixels: Vec<f32> = (0..8 * 3 * 32 * 32)
        .map(|index| {
            let (image, column) = (index / (3 * 32 * 32), index % 32);
            if (column / (image + 1)) % 2 == 0 {
                0.9
            } else {
                0.1
            }
        })
        .collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [8, 3, 32, 32]), &device);
    // A noise of zero makes an autoencoder of it; a real training draws from a seeded stream.
    let noise = Tensor::zeros([8, 4], &device);

    for step in 0..=60 {
        let terms = vae
            .forward(images.clone(), noise.clone(), Sampler::Correct, None)
            .terms;
        let loss = terms.loss().mean();
        if step % 10 == 0 {
            println!(
                "step {step:2}: cross-entropy {:7.1}, KL {:5.1} nats an image",
                terms.cross_entropy.mean().into_scalar::<f32>(),
                terms.kl.mean().into_scalar::<f32>(),
            );
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &vae);
        vae = adam.step(1e-2, vae, gradients);
    }
}
