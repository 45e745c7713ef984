//! Which blocks have zeros, and that the pixels between may have any value.

use super::*;
use crate::blocks::bottleneck::BottleneckConfig;
use crate::blocks::shortcut::Shortcuts;
use crate::dispatch::with_plain_blocks;
use burn::tensor::Tolerance;

fn config(stride: usize, sampling: Sampling) -> BottleneckConfig {
    BottleneckConfig::new(6, 3)
        .with_stride(stride)
        .with_sampling(sampling)
}

#[test]
fn only_transposed_blocks_with_a_stride_have_zeros() {
    let device = Device::flex();
    for (stride, sampling, expected) in [
        (2, Sampling::Transposed, true),
        (3, Sampling::Transposed, true),
        (1, Sampling::Transposed, false),
        (2, Sampling::Strided, false),
    ] {
        let config = config(stride, sampling);
        assert_eq!(has_zeros(&config.init(&device).layers()), expected);
        let plain = config.with_shortcuts(Shortcuts::Plain);
        assert_eq!(has_zeros(&plain.init(&device).layers()), expected);
    }
}

#[test]
fn the_pixels_between_may_have_any_value() {
    // A sigmoid leaves a half where a ReLU might leave nothing, and no other fast form knows it.
    for device in [Device::flex(), Device::flex().autodiff()] {
        let block = config(2, Sampling::Transposed)
            .with_activation(Activation::Sigmoid)
            .init(&device);
        let input = Tensor::<4>::random(
            [2, 6, 3, 5],
            burn::tensor::Distribution::Normal(1.0, 2.0),
            &device,
        );
        let expected = with_plain_blocks(|| block.forward(input.clone()));
        block
            .forward(input)
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }
}
