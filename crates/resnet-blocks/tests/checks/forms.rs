//! How a fast form on some device is compared with the plain form in float64; the tests are in `fast_forms.rs`, and for GPUs' kernels in a
//! workspace of their own (`tests/kernels`). Whoever includes this names the device of the reference, `crate::reference`, those that have
//! one operation for a block, `crate::has_one_operation`, and the types that are compared, `crate::TOLERANCES`.

use std::collections::HashMap;

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{
    Bottleneck, BottleneckConfig, ConvolutionConfig, Sampling, Shortcuts, map_named_parameters,
    named_parameters, with_plain_blocks,
};

/// Deterministic values without a pattern that a kernel could hide in.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) channels_in: usize,
    pub(crate) width: usize,
    pub(crate) size: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) sampling: Sampling,
    pub(crate) shortcuts: Shortcuts,
}

pub(crate) fn block(case: &Case, device: &Device, dtype: DType) -> Bottleneck {
    let block = BottleneckConfig::new(case.channels_in, case.width)
        .with_stride(case.stride)
        .with_sampling(case.sampling)
        .with_shortcuts(case.shortcuts)
        .init(device);
    let mut seed = 0;
    map_named_parameters(block, |name, shape| {
        seed += 1;
        let count = shape.iter().product();
        let is_positive = name.ends_with("running_var");
        let values = values(count, seed)
            .into_iter()
            .map(|value| if is_positive { 1.5 + value } else { value });
        Some(TensorData::new(values.collect::<Vec<_>>(), shape.to_vec()).convert_dtype(dtype))
    })
}

/// Everything a training pass computes, by name.
pub(crate) fn training_pass(
    case: &Case,
    device: Device,
    dtype: DType,
    is_plain: bool,
) -> Vec<(String, Vec<f64>)> {
    training_pass_of(case, device, dtype, is_plain, (0..case.batch, 1.0))
}

/// As [`training_pass`], of some images of the batch, and with the loss times a factor.
pub(crate) fn training_pass_of(
    case: &Case,
    device: Device,
    dtype: DType,
    is_plain: bool,
    (images, factor): (std::ops::Range<usize>, f64),
) -> Vec<(String, Vec<f64>)> {
    let device = device.autodiff();
    let block = block(case, &device, dtype);
    let input_dims = [case.batch, case.channels_in, case.size[0], case.size[1]];
    let data = |dims: [usize; 4], seed| {
        TensorData::new(values(dims.iter().product(), seed), dims).convert_dtype(dtype)
    };
    let input = Tensor::<4>::from_data(data(input_dims, 77), (&device, dtype));
    let input = input.narrow(0, images.start, images.len()).require_grad();
    let output = if is_plain {
        with_plain_blocks(|| block.forward(input.clone()))
    } else {
        block.forward(input.clone())
    };
    let [_, channels, height, width] = output.dims();
    let weights = data([case.batch, channels, height, width], 78);
    let weight = Tensor::<4>::from_data(weights, (&device, dtype));
    let weight = weight.narrow(0, images.start, images.len());
    let gradients = (output.clone() * weight)
        .sum()
        .mul_scalar(factor)
        .backward();

    struct Reader<'a>(
        &'a burn::tensor::Gradients,
        HashMap<burn::module::ParamId, TensorData>,
    );
    impl ModuleVisitor for Reader<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.0) {
                self.1.insert(param.id, gradient.into_data());
            }
        }
    }
    let mut reader = Reader(&gradients, HashMap::new());
    block.visit(&mut reader);
    let wide = |data: TensorData| {
        data.convert_dtype(DType::F64)
            .try_to_vec::<f64>()
            .expect("float64")
    };
    let mut found = vec![
        ("output".to_owned(), wide(output.inner().into_data())),
        (
            "gradient of input".to_owned(),
            wide(input.grad(&gradients).expect("input").into_data()),
        ),
    ];
    for parameter in named_parameters(&block.valid()) {
        let data = if parameter.name.contains("running") {
            parameter.data
        } else {
            reader
                .1
                .remove(&parameter.id)
                .unwrap_or_else(|| panic!("no gradient of {}", parameter.name))
        };
        found.push((parameter.name, wide(data)));
    }
    found
}

pub(crate) fn evaluation_pass(
    case: &Case,
    device: Device,
    dtype: DType,
    is_plain: bool,
) -> Vec<f64> {
    let block = block(case, &device, dtype);
    let dims = [case.batch, case.channels_in, case.size[0], case.size[1]];
    let data = TensorData::new(values(dims.iter().product(), 79), dims).convert_dtype(dtype);
    let input = Tensor::<4>::from_data(data, (&device, dtype));
    let output = if is_plain {
        with_plain_blocks(|| block.forward(input))
    } else {
        block.forward(input)
    };
    output
        .into_data()
        .convert_dtype(DType::F64)
        .try_to_vec::<f64>()
        .expect("float64")
}

pub(crate) fn relative_distance(expected: &[f64], found: &[f64]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let distance = expected
        .iter()
        .zip(found)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    distance
        / expected
            .iter()
            .map(|a| a * a)
            .sum::<f64>()
            .sqrt()
            .max(f64::MIN_POSITIVE)
}

#[track_caller]
pub(crate) fn check_on(device: Device, case: Case) {
    let is_one_operation = crate::has_one_operation(&device);
    for &(dtype, allowed) in crate::TOLERANCES {
        // The reference of both is the plain form in float64.
        let expected = training_pass(&case, crate::reference(), DType::F64, true);
        let found = training_pass(&case, device.clone(), dtype, false);
        for ((name, expected), (_, found)) in expected.iter().zip(found) {
            if name.ends_with(".bias") && !name.ends_with("_norm.bias") {
                // One operation leaves it out; ordinary ones add up to rounding errors.
                let allowed = if is_one_operation { 0.0 } else { allowed };
                let is_zero = found.iter().all(|value| value.abs() <= allowed);
                assert!(is_zero, "{case:?} {name}");
                continue;
            }
            let distance = relative_distance(expected, &found);
            assert!(
                distance <= allowed,
                "{case:?} {dtype:?}: {name} is off by {distance:e}"
            );
        }
        let distance = relative_distance(
            &evaluation_pass(&case, crate::reference(), DType::F64, true),
            &evaluation_pass(&case, device.clone(), dtype, false),
        );
        assert!(
            distance <= allowed,
            "{case:?} {dtype:?}: evaluation is off by {distance:e}"
        );
    }
}

/// Strided blocks of sizes that no vector divides.
pub(crate) fn strided_cases() -> Vec<Case> {
    cases(
        Sampling::Strided,
        &[1, 2, 3],
        [
            (1, 3, 2, [5, 7]),
            (3, 8, 2, [4, 4]),
            (9, 12, 5, [7, 3]),
            (17, 20, 6, [2, 9]),
        ],
    )
}

/// Transposed blocks, down to images of one row.
pub(crate) fn transposed_cases() -> Vec<Case> {
    cases(
        Sampling::Transposed,
        &[1, 2, 3, 4],
        [
            (1, 3, 2, [3, 2]),
            (3, 8, 2, [4, 4]),
            (9, 12, 5, [1, 3]),
            (17, 6, 6, [2, 1]),
        ],
    )
}

fn cases(
    sampling: Sampling,
    strides: &[usize],
    sizes: [(usize, usize, usize, [usize; 2]); 4],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for &stride in strides {
        for shortcuts in [Shortcuts::Residual, Shortcuts::Plain] {
            cases.extend(sizes.map(|(batch, channels_in, width, size)| Case {
                batch,
                channels_in,
                width,
                size,
                stride,
                sampling,
                shortcuts,
            }));
        }
    }
    cases
}

/// Blocks of the sizes that the model has.
pub(crate) fn model_cases() -> Vec<Case> {
    [
        (32, 16, [16, 16], 2, Sampling::Strided),
        (128, 64, [16, 16], 2, Sampling::Transposed),
        (64, 16, [8, 8], 1, Sampling::Strided),
    ]
    .into_iter()
    .map(|(channels_in, width, size, stride, sampling)| Case {
        batch: 5,
        channels_in,
        width,
        size,
        stride,
        sampling,
        shortcuts: Shortcuts::Residual,
    })
    .collect()
}

/// A NaN in the input is in the output and in the gradients.
pub(crate) fn check_nan(device: Device) {
    let device = device.autodiff();
    let are_nan = |data: TensorData| {
        let values = data.try_to_vec::<f32>().expect("float32");
        values.iter().all(|value| value.is_nan())
    };
    for sampling in [Sampling::Strided, Sampling::Transposed] {
        let block = BottleneckConfig::new(4, 2)
            .with_stride(2)
            .with_sampling(sampling)
            .init(&device);
        let input = Tensor::<4>::full([2, 4, 4, 4], f32::NAN, &device).require_grad();
        let output = block.forward(input.clone());
        assert!(are_nan(output.clone().inner().into_data()), "{sampling:?}");
        let gradients = output.sum().backward();
        let gradient = block
            .expand
            .weight
            .val()
            .grad(&gradients)
            .expect("a gradient");
        assert!(are_nan(gradient.into_data()), "{sampling:?}");
    }
}

/// 1x1 convolutions with stride 1.
pub(crate) fn check_pointwise(device: Device) {
    for (channels_in, channels_out, size) in [(5, 3, [4, 7]), (3, 17, [1, 1]), (64, 3, [16, 16])] {
        for sampling in [Sampling::Strided, Sampling::Transposed] {
            for &(dtype, allowed) in crate::TOLERANCES {
                let run = |device: Device, dtype: DType, is_plain: bool| {
                    let device = device.autodiff();
                    let layer = ConvolutionConfig::new(channels_in, channels_out)
                        .with_sampling(sampling)
                        .init(&device);
                    let layer = map_named_parameters(layer, |name, shape| {
                        let values = values(shape.iter().product(), name.len() as u64);
                        Some(TensorData::new(values, shape.to_vec()).convert_dtype(dtype))
                    });
                    let data = |channels: usize, seed| {
                        let dims = [10, channels, size[0], size[1]];
                        TensorData::new(values(dims.iter().product(), seed), dims)
                            .convert_dtype(dtype)
                    };
                    let input = Tensor::<4>::from_data(data(channels_in, 5), (&device, dtype))
                        .require_grad();
                    let forward = || layer.forward(input.clone());
                    let output = if is_plain {
                        with_plain_blocks(forward)
                    } else {
                        forward()
                    };
                    let weight = Tensor::<4>::from_data(data(channels_out, 6), (&device, dtype));
                    let gradients = (output.clone() * weight).sum().backward();
                    let all = [
                        output.inner().into_data(),
                        input.grad(&gradients).expect("input").into_data(),
                        layer
                            .weight
                            .val()
                            .grad(&gradients)
                            .expect("weight")
                            .into_data(),
                        layer.bias.val().grad(&gradients).expect("bias").into_data(),
                    ];
                    all.map(|data| {
                        data.convert_dtype(DType::F64)
                            .try_to_vec::<f64>()
                            .expect("float64")
                    })
                };
                let expected = run(crate::reference(), DType::F64, true);
                for (expected, found) in expected.iter().zip(&run(device.clone(), dtype, false)) {
                    let distance = relative_distance(expected, found);
                    assert!(
                        distance <= allowed,
                        "{channels_in} to {channels_out} {sampling:?} {dtype:?}: {distance:e}"
                    );
                }
            }
        }
    }
}
