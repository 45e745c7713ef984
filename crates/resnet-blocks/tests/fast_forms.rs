//! The fast forms of the bottleneck against its plain form: output, running statistics and every gradient. On flex that is
//! one operation, on ndarray an upsampling block without its zeros.
//!
//! Tolerances: relative L2 a tensor, 1e-5 in float64 and 1e-4 in float32. The gradient of a bias before a norm is zero.
#![cfg(feature = "flex")]

#[path = "checks/forms.rs"]
mod checks;

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{
    Activation, BottleneckConfig, ConvolutionConfig, NormConfig, Sampling, SharedBatch, Shortcuts,
    map_named_parameters, normalize,
};

use std::ops::Range;
use std::sync::{Arc, Barrier, Mutex};

use checks::{
    Case, block, check_nan, check_on, check_pointwise, model_cases, relative_distance,
    strided_cases, training_pass, training_pass_of, transposed_cases, values,
};

fn reference() -> Device {
    Device::flex()
}

/// What may differ, as a relative L2 distance a tensor.
const TOLERANCES: &[(DType, f64)] = &[(DType::F64, 1e-5), (DType::F32, 1e-4)];

fn has_one_operation(device: &Device) -> bool {
    *device == Device::flex()
}

#[test]
fn strided_blocks_match_the_plain_form() {
    for case in strided_cases() {
        check_on(Device::flex(), case);
    }
}

#[test]
#[allow(deprecated)] // The reference backend until Burn removes it.
fn transposed_blocks_match_the_plain_form() {
    for case in transposed_cases() {
        for device in [Device::flex(), Device::ndarray()] {
            check_on(device, case);
        }
    }
}

#[test]
fn blocks_of_the_model_match_the_plain_form() {
    for case in model_cases() {
        check_on(Device::flex(), case);
    }
}

#[test]
fn a_nan_reaches_output_and_gradients() {
    check_nan(Device::flex());
}

#[test]
fn pointwise_layers_match_the_plain_form() {
    check_pointwise(Device::flex());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for sampling in [Sampling::Strided, Sampling::Transposed] {
        let case = Case {
            batch: 11,
            channels_in: 8,
            width: 3,
            size: [6, 5],
            stride: 2,
            sampling,
            shortcuts: Shortcuts::Residual,
        };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool of threads");
            pool.install(|| training_pass(&case, Device::flex(), DType::F32, false))
        };
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert_eq!(expected, run(threads), "{sampling:?}, {threads} threads");
        }
    }
}

/// Runs `work` on each shard of a batch, on a thread of its own, with the statistics of all.
fn on_shards<R: Send>(shards: &[Range<usize>], work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let images = shards.iter().map(Range::len).sum();
    let barrier = Arc::new(Barrier::new(shards.len()));
    let slots = Arc::new(Mutex::new(vec![Vec::new(); shards.len()]));
    std::thread::scope(|scope| {
        let threads: Vec<_> = shards
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, shard)| {
                let (barrier, slots) = (barrier.clone(), slots.clone());
                let batch = SharedBatch::new(images, shard.len(), move |own: Vec<f64>| {
                    slots.lock().expect("no thread has failed")[index] = own;
                    barrier.wait();
                    let mut sum = Vec::new();
                    for of_part in slots.lock().expect("no thread has failed").iter() {
                        sum.resize(of_part.len(), 0.0);
                        sum.iter_mut()
                            .zip(of_part)
                            .for_each(|(sum, own)| *sum += own);
                    }
                    barrier.wait();
                    sum
                });
                let work = &work;
                scope.spawn(move || batch.run(|| work(shard)))
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|result| result.expect("it ends")).collect()
    })
}

/// Output, running statistics and every gradient of a batch in uneven shards are those of the undivided batch.
#[test]
fn parts_that_share_their_statistics_are_the_undivided_batch() {
    let mut worst = 0.0_f64;
    for case in strided_cases().into_iter().chain(transposed_cases()) {
        for is_plain in [false, true] {
            // A loss is the mean over the images: of a shard, over its own.
            let pass = |shard: Range<usize>| {
                let factor = 1.0 / shard.len() as f64;
                training_pass_of(&case, Device::flex(), DType::F64, is_plain, (shard, factor))
            };
            let whole = pass(0..case.batch);
            // Two shards of one and of the other images, and one for each image.
            for shards in [
                vec![0..1, 1..case.batch],
                (0..case.batch).map(|image| image..image + 1).collect(),
            ] {
                if shards.iter().any(Range::is_empty) {
                    continue;
                }
                let found = on_shards(&shards, pass);
                for (index, (name, expected)) in whole.iter().enumerate() {
                    let of_shards = found.iter().map(|pass| &pass[index].1).zip(&shards);
                    let share = |shard: &Range<usize>| shard.len() as f64 / case.batch as f64;
                    let joined: Vec<f64> = match name.as_str() {
                        "output" => of_shards.flat_map(|(values, _)| values.clone()).collect(),
                        "gradient of input" => of_shards
                            .flat_map(|(values, shard)| {
                                values.iter().map(move |value| value * share(shard))
                            })
                            .collect(),
                        _ => {
                            of_shards.fold(vec![0.0; expected.len()], |mut sum, (values, shard)| {
                                sum.iter_mut()
                                    .zip(values)
                                    .for_each(|(sum, value)| *sum += share(shard) * value);
                                sum
                            })
                        }
                    };
                    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let difference: Vec<f64> =
                        joined.iter().zip(expected).map(|(a, b)| a - b).collect();
                    if name.ends_with(".bias") && !name.ends_with("_norm.bias") {
                        // The gradient of a bias before a norm is zero.
                        assert!(norm(&joined) <= 1e-5, "{case:?}, plain {is_plain}, {name}");
                        continue;
                    }
                    let distance = norm(&difference) / norm(expected).max(1e-12);
                    assert!(
                        distance < 1e-5,
                        "{case:?}, plain {is_plain}, {shards:?}, {name}: {distance:e}"
                    );
                    worst = worst.max(distance);
                }
            }
        }
    }
    println!("largest relative distance {worst:e}");
}

/// A norm on its own, as behind a dense layer at each of four positions of an image.
#[test]
fn a_norm_of_parts_has_the_statistics_of_all() {
    let device = Device::flex().autodiff();
    let images = checks::values(5 * 4 * 3, 7);
    let pass = |shard: Range<usize>| {
        let norm = NormConfig::new().init(3, &device);
        let data = TensorData::new(
            images[12 * shard.start..12 * shard.end].to_vec(),
            [4 * shard.len(), 3],
        );
        let input = Tensor::<2>::from_data(data, &device).require_grad();
        let output = normalize(&norm, input.clone());
        let loss = output.clone().powi_scalar(3).sum_dim(1).mean();
        let gradient = input.grad(&loss.backward()).expect("it has one");
        let values = |data: TensorData| {
            data.convert_dtype(DType::F64)
                .try_to_vec::<f64>()
                .expect("float64")
        };
        let variance = norm.running_var.value().inner();
        let share = shard.len() as f64;
        let gradient = values(gradient.into_data())
            .into_iter()
            .map(|value| value * share);
        [
            values(output.inner().into_data()),
            gradient.collect(),
            values(variance.into_data()),
        ]
    };
    let whole = pass(0..5);
    let shards = on_shards(&[0..2, 2..5], pass);
    let joined = |of: usize| -> Vec<f64> {
        let values = shards.iter().map(|shard| shard[of].as_slice());
        values.collect::<Vec<_>>().concat()
    };
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5);
    assert!(close(&joined(0), &whole[0]));
    assert!(
        close(&joined(1), &whole[1]),
        "{:?} {:?}",
        joined(1),
        whole[1]
    );
    assert!(shards.iter().all(|shard| close(&shard[2], &whole[2])));
}

/// A block with another activation has no one operation; its plain form for upsampling leaves out zeros, and knows of no other shard.
#[test]
fn parts_of_an_upsampling_block_without_one_operation_share_their_statistics() {
    let device = Device::flex().autodiff();
    let dims = [3, 8, 4, 4];
    let input = TensorData::new(values(dims.iter().product(), 5), dims);
    let input = Tensor::<4>::from_data(input, (&device, DType::F64));
    let pass = |shard: Range<usize>| {
        let block = BottleneckConfig::new(8, 2)
            .with_stride(2)
            .with_sampling(Sampling::Transposed)
            .with_activation(Activation::Silu)
            .init(&device);
        let mut seed = 0;
        let block = map_named_parameters(block, |_, shape| {
            seed += 1;
            let data = TensorData::new(values(shape.iter().product(), seed), shape.to_vec());
            Some(data.convert_dtype(DType::F64))
        });
        let output = block.forward(input.clone().narrow(0, shard.start, shard.len()));
        let data = output.into_data().convert_dtype(DType::F64);
        data.try_to_vec::<f64>().expect("float64")
    };
    let whole = pass(0..3);
    let shards = on_shards(&[0..1, 1..3], pass).concat();
    let distance = relative_distance(&whole, &shards);
    assert!(distance < 1e-10, "{distance:e}");
}

#[test]
#[should_panic(expected = "the layer takes 64 channels, not 32")]
fn a_pointwise_layer_refuses_other_channels() {
    let device = Device::flex();
    let layer = ConvolutionConfig::new(64, 3).init(&device);
    let _ = layer.forward(Tensor::zeros([1, 32, 4, 4], &device));
}

#[test]
fn a_layer_behind_a_block_is_the_same_in_one_pass_with_it() {
    let device = Device::flex();
    // One part and several, rows in one tile and in many, more and fewer channels than the block's.
    for (sampling, stride, batch, size, channels_out) in [
        (Sampling::Transposed, 2, 9, [5, 6], 3),
        (Sampling::Strided, 2, 3, [7, 4], 100),
        (Sampling::Transposed, 1, 1, [1, 1], 6),
        (Sampling::Transposed, 2, 2, [60, 64], 3),
        (Sampling::Strided, 1, 2, [33, 100], 2),
    ] {
        let case = Case {
            batch,
            channels_in: 4,
            width: 3,
            size,
            stride,
            sampling,
            shortcuts: Shortcuts::Residual,
        };
        for dtype in [DType::F32, DType::F64] {
            let block = block(&case, &device, dtype);
            let dims = [batch, 4, size[0], size[1]];
            let data = TensorData::new(values(dims.iter().product(), 3), dims);
            let input = Tensor::<4>::from_data(data.convert_dtype(dtype), (&device, dtype));
            for sampling in [Sampling::Strided, Sampling::Transposed] {
                let next = ConvolutionConfig::new(12, channels_out).with_sampling(sampling);
                let mut seed = 70;
                let next = map_named_parameters(next.init(&device), |_, shape| {
                    seed += 1;
                    let data = values(shape.iter().product(), seed);
                    Some(TensorData::new(data, shape.to_vec()).convert_dtype(dtype))
                });
                let apart = next.forward(block.forward(input.clone()));
                let together = block.forward_then(input.clone(), &next);
                assert_eq!(together.dims(), apart.dims());
                let [together, apart] = [together, apart].map(|map| {
                    let data = map.into_data().convert_dtype(DType::F64);
                    data.try_to_vec::<f64>().expect("float64")
                });
                let tolerance = if dtype == DType::F64 { 1e-14 } else { 1e-6 };
                let distance = relative_distance(&apart, &together);
                assert!(distance < tolerance, "{case:?} {dtype:?}: {distance}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "the layer takes 6 channels, not 12")]
fn a_layer_behind_a_block_refuses_other_channels() {
    let device = Device::flex();
    let block = BottleneckConfig::new(4, 3).init(&device);
    let next = ConvolutionConfig::new(6, 3).init(&device);
    block.forward_then(Tensor::ones([1, 4, 5, 5], &device), &next);
}
