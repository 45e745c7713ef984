//! The product of a 1x1 convolution on CUDA, its weight as it is and transposed, against sums on the host. On the stand-in driver no kernel runs, but the
//! stand-in cuBLASLt multiplies: right results show that its matrices are described as they lie in memory.

use burn::prelude::*;
use burn::tensor::Tensor;
use resnet_blocks::{ConvolutionConfig, Sampling, map_named_parameters};

fn values(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|index| ((index * 7 + seed * 13) % 11) as f32 - 5.0)
        .collect()
}

fn main() {
    let device = Device::cuda(0);
    let (rows, inputs, outputs) = (5, 3, 4);
    for sampling in [Sampling::Strided, Sampling::Transposed] {
        let layer = ConvolutionConfig::new(inputs, outputs)
            .with_sampling(sampling)
            .init(&device);
        let weights = values(inputs * outputs, 1);
        let layer = map_named_parameters(layer, |name, shape| {
            let values = if name == "weight" {
                weights.clone()
            } else {
                vec![0.0; outputs]
            };
            Some(TensorData::new(values, shape.to_vec()))
        });
        let given = values(rows * inputs, 2);
        let input = Tensor::<4>::from_data(
            TensorData::new(given.clone(), [rows, inputs, 1, 1]),
            &device,
        );
        let output = layer
            .forward(input)
            .into_data()
            .try_to_vec::<f32>()
            .expect("float32");
        let weight = |from: usize, to: usize| match sampling {
            Sampling::Strided => weights[to * inputs + from],
            Sampling::Transposed => weights[from * outputs + to],
        };
        let expected: Vec<f32> = (0..rows * outputs)
            .map(|index| {
                (0..inputs)
                    .map(|from| {
                        given[index / outputs * inputs + from] * weight(from, index % outputs)
                    })
                    .sum()
            })
            .collect();
        assert_eq!(output, expected, "{sampling:?}");
        println!("{sampling:?} is right");
    }
}
