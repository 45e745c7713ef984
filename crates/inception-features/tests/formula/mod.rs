//! Weights and images as `golden/make.py` computes them.

use std::path::Path;

use burn::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The last steps of MurmurHash3.
fn mixed(mut value: u32) -> u32 {
    value ^= value >> 16;
    value = value.wrapping_mul(0x85EB_CA6B);
    value ^= value >> 13;
    value = value.wrapping_mul(0xC2B2_AE35);
    value ^ value >> 16
}

/// FNV-1a.
fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |value, byte| {
        (value ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The values of a tensor.
pub(crate) fn tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let fan_in: usize = shape[1..].iter().product();
    let bound = (6.0 / fan_in as f64).sqrt();
    let seed = seed(name);
    (0..count as u32)
        .map(|index| {
            let mixed = mixed(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9)));
            let uniform = f64::from(mixed) / 2f64.powi(32);
            let value = if name.ends_with("conv.weight") {
                (2.0 * uniform - 1.0) * bound
            } else if name.ends_with("bn.weight") {
                0.8 + 0.4 * uniform
            } else if name.ends_with("running_var") {
                0.5 + uniform
            } else {
                0.2 * (uniform - 0.5)
            };
            value as f32
        })
        .collect()
}

/// An image of 8 bits, `[1, 3, height, width]`.
pub(crate) fn image(number: u32, height: u32, width: u32, device: &Device) -> Tensor<4> {
    let mut values = Vec::new();
    for channel in 0..3 {
        for y in 0..height {
            for x in 0..width {
                let place = (channel * height + y) * width + x;
                let noise = mixed(number.wrapping_add(place.wrapping_mul(0x9E37_79B9))) & 63;
                let level = (5 * x + 3 * y + 60 * channel + 40 * number + noise) % 256;
                values.push(level as f32 / 255.0);
            }
        }
    }
    let shape = [1, 3, height as usize, width as usize];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Every tensor of the network, as safetensors.
pub(crate) fn write_weights(path: &Path) {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = inception_features::tensor_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let values = tensor(&name, &shape);
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("its own size");
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, path).expect("written");
}
