//! Twenty steps of training against losses computed independently in float64: model, gradients and optimizer together.

#![cfg(feature = "flex")]

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::map_named_parameters;
use trainer::adam::Adam;
use trainer::weights::{NamedValues, from_safetensors};
use vae_core::{Depth, Sampler, VaeConfig};

fn data(golden: &NamedValues, name: &str, dtype: DType) -> TensorData {
    let (shape, values) = &golden[name];
    TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype)
}

fn check(depth: Depth, dtype: DType, tolerance: f64) {
    let file = format!(
        "../vae-core/tests/golden/vae_depth{}.safetensors",
        depth.layers()
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let golden = from_safetensors(&std::fs::read(path).expect("readable")).expect("a golden file");
    let device = Device::flex().autodiff();
    let config = VaeConfig::preset(depth)
        .with_stage_widths([4, 6, 8, 10])
        .with_intermediate_dim(64)
        .with_latent_dim(12);
    let mut vae = map_named_parameters(config.init(&device), |name, _| {
        Some(data(&golden, &format!("param.{name}"), dtype))
    });
    let images = Tensor::<4>::from_data(data(&golden, "images", dtype), (&device, dtype));
    let noise = Tensor::<2>::from_data(data(&golden, "noise", dtype), (&device, dtype));
    let mut adam = Adam::new();
    for (step, expected) in golden["adam_loss_curve"].1.iter().enumerate() {
        let output = vae.forward(images.clone(), noise.clone(), Sampler::Correct, None);
        let loss = output.terms.loss().mean();
        let found = loss
            .clone()
            .into_data()
            .convert_dtype(DType::F64)
            .try_to_vec::<f64>()
            .expect("float64")[0];
        let error = (found / *expected as f64 - 1.0).abs();
        assert!(
            error <= tolerance,
            "{depth:?} {dtype:?} step {step}: {found} against {expected}, off by {error:e}"
        );
        vae = adam.step(vae, loss.backward(), 1e-3);
    }
}

#[test]
fn the_loss_curve_matches_in_float64() {
    check(Depth::Depth28, DType::F64, 1e-5);
    check(Depth::Depth40, DType::F64, 1e-5);
}

#[test]
fn the_loss_curve_matches_in_float32() {
    check(Depth::Depth28, DType::F32, 1e-3);
    check(Depth::Depth40, DType::F32, 1e-3);
}
