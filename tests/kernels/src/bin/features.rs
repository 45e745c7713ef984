//! The features of a FID of two images on CUDA: the Inception network, with weights that are all alike.

use burn::prelude::*;
use inception_features::{FEATURES, Inception, Weights, tensor_shapes};
use safetensors::tensor::{Dtype, TensorView};

fn main() {
    let path = std::env::current_dir()
        .expect("a folder")
        .join("weights.safetensors");
    let shapes = tensor_shapes();
    let most = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>());
    let bytes: Vec<u8> = std::iter::repeat_n(0.01f32.to_le_bytes(), most.max().expect("tensors"))
        .flatten()
        .collect();
    let views = shapes.iter().map(|(name, shape)| {
        let bytes = &bytes[..4 * shape.iter().product::<usize>()];
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("its own size");
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &path).expect("written");
    let weights = Weights::read(&path).expect("the weights just written");
    let device = Device::cuda(0);
    let inception = Inception::new(&weights, &device).expect("all tensors");
    let features = inception.features(Tensor::full([2, 3, 32, 32], 0.5, &device));
    let [images, count] = features.dims();
    // Reading reports what went wrong on the way.
    drop(features.into_data());
    assert_eq!((images, count), (2, FEATURES));
    println!("{count} features of {images} images");
}
