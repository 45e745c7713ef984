//! Blocks and whole autoencoders on a Vulkan device: a card, or Mesa's lavapipe, which computes on the processor
//! (`apt-get install mesa-vulkan-drivers libvulkan1`). Without one every test fails.
//!
//! Tolerances are those of float32 in the crates' own tests, whose checks these are.

#[allow(dead_code)] // The tolerances of other types.
#[path = "../../../crates/vae-core/tests/checks/golden.rs"]
mod autoencoder;
#[path = "../../../crates/resnet-blocks/tests/checks/golden.rs"]
mod block;
#[path = "../../../crates/resnet-blocks/tests/checks/forms.rs"]
mod forms;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::prelude::*;
use burn::tensor::DType;
use kernel_tests::vulkan;
use resnet_blocks::cube::{
    CubeClProducts, Matrix, Operand, Plain, Products, Storage, device_of, largest_buffer, values,
};
use resnet_blocks::{SharedBatch, join};
use vae_core::Depth;

fn golden_path(file: &str) -> String {
    let owner = if file.starts_with("vae") {
        "vae-core"
    } else {
        "resnet-blocks"
    };
    format!(
        "{}/../../crates/{owner}/tests/golden/{file}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// In float64 all of it is Burn's own operations there.
fn reference() -> Device {
    Device::flex()
}

/// What may differ, as a relative L2 distance a tensor.
const TOLERANCES: &[(DType, f64)] = &[(DType::F32, 1e-4)];

fn has_one_operation(device: &Device) -> bool {
    *device == vulkan()
}

/// Bottlenecks are one operation here; basic blocks take the plain form, of Burn's operations.
#[test]
fn every_block_matches_its_golden_file() {
    for file in block::FILES {
        block::check_block(file, &vulkan(), DType::F32, 1e-4);
    }
}

/// A shard of a batch, whoever computes the others.
fn shard_of_a_batch<R>(work: impl FnOnce() -> R) -> R {
    let batch = SharedBatch::new(10, 5, |own| own.iter().map(|own| 2.0 * own).collect());
    batch.run(work)
}

/// A shard's norms would need the sums of the others, which only processors bring: no block and no norm may take its own batch's instead. With running
/// statistics a shard is a batch as any other.
#[test]
fn a_shared_batch_is_refused_where_statistics_would_be_the_shards_own() {
    assert!(!SharedBatch::is_known(&vulkan()));
    for case in forms::model_cases() {
        let shared =
            shard_of_a_batch(|| forms::evaluation_pass(&case, vulkan(), DType::F32, false));
        let alone = forms::evaluation_pass(&case, vulkan(), DType::F32, false);
        let distance = forms::relative_distance(&alone, &shared);
        assert!(distance <= 1e-4, "{case:?}: {distance:e}");

        let trained = catch_unwind(|| {
            shard_of_a_batch(|| forms::training_pass(&case, vulkan(), DType::F32, false))
        });
        let panic = trained.expect_err("a shard without the others' statistics");
        let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(text.contains("shared on flex alone"), "{case:?}: {text}");
    }
}

#[test]
fn strided_blocks_match_the_plain_form() {
    for case in forms::strided_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn transposed_blocks_match_the_plain_form() {
    for case in forms::transposed_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn blocks_of_the_model_match_the_plain_form() {
    for case in forms::model_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn pointwise_layers_match_the_plain_form() {
    forms::check_pointwise(vulkan());
}

#[test]
fn a_nan_reaches_output_and_gradients() {
    forms::check_nan(vulkan());
}

#[test]
fn both_autoencoders_match_their_golden_files() {
    for (depth, file) in [
        (Depth::Depth28, "vae_depth28"),
        (Depth::Depth40, "vae_depth40"),
    ] {
        autoencoder::check_values_and_gradients(
            depth,
            file,
            vulkan(),
            DType::F32,
            &autoencoder::FLOAT32,
        );
    }
}

/// Numbers between -1 and 1, the same for the same seed.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn every_product_is_that_of_float64_sums() {
    let all: [&dyn Products; 2] = [&Plain::default(), &CubeClProducts];
    for (seed, [rows, columns, depth]) in [[37, 29, 53], [128, 64, 576], [5, 3, 1300], [64, 3, 16]]
        .into_iter()
        .enumerate()
    {
        let seed = seed as u32;
        let (left, right) = (
            numbers(rows * depth, seed),
            numbers(depth * columns, seed + 10),
        );
        let before = numbers(rows * columns, seed + 20);
        for case in 0..8 {
            let [left_transposed, right_transposed, is_added] =
                [1, 2, 4].map(|bit| case & bit != 0);
            let matrix = |values_of: &[f32], rows: usize, columns: usize, is_transposed: bool| {
                let stored: Vec<f32> = match is_transposed {
                    false => values_of.to_vec(),
                    true => (0..columns * rows)
                        .map(|at| values_of[at % rows * columns + at / rows])
                        .collect(),
                };
                let tensor = Tensor::<1>::from_floats(stored.as_slice(), &vulkan());
                let device = device_of(tensor.clone()).expect("a device with kernels");
                let (rows, columns) = if is_transposed {
                    (columns, rows)
                } else {
                    (rows, columns)
                };
                let matrix = Matrix {
                    buffer: values(tensor).expect("its buffer").buffer,
                    rows,
                    columns,
                    storage: Storage::F32,
                };
                (device, matrix)
            };
            // CubeCL's, which are there to compare with, compile for minutes.
            let count = if seed == 0 { 2 } else { 1 };
            for products in all.into_iter().take(count) {
                let (_, left_matrix) = matrix(&left, rows, depth, left_transposed);
                let (_, right_matrix) = matrix(&right, depth, columns, right_transposed);
                let (device, out) = matrix(&before, rows, columns, false);
                products.multiply(
                    &device.client,
                    Operand {
                        matrix: &left_matrix,
                        is_transposed: left_transposed,
                    },
                    Operand {
                        matrix: &right_matrix,
                        is_transposed: right_transposed,
                    },
                    &out,
                    is_added,
                );
                let bytes = device.client.read_one(out.buffer.handle()).expect("bytes");
                for (at, bytes) in bytes.chunks_exact(4).take(rows * columns).enumerate() {
                    let value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
                    let (row, column) = (at / columns, at % columns);
                    let terms = (0..depth).map(|term| {
                        f64::from(left[row * depth + term])
                            * f64::from(right[term * columns + column])
                    });
                    let expected =
                        terms.sum::<f64>() + if is_added { f64::from(before[at]) } else { 0.0 };
                    assert!(
                        (f64::from(value) - expected).abs() < 1e-5 * (depth as f64).sqrt(),
                        "{}, {rows} x {depth} x {columns}, case {case}, value {at}: {value}, not {expected}",
                        products.name()
                    );
                }
            }
        }
    }
}

/// A tensor above the device's largest buffer is never computed, and what needs it has to fail wherever it stands among others.
#[test]
fn what_was_never_computed_is_not_forgotten_among_other_parts() {
    let device = vulkan();
    let largest = largest_buffer(&device).expect("a GPU's");
    let rows = usize::try_from(largest >> 22).expect("a size") + 1; // of 4 MiB
    let missing = || (Tensor::<2>::ones([rows, 1 << 20], &device) * 2.0).sum();
    let there = || Tensor::<1>::ones([2], &device).exp();
    let read = |parts: Vec<Tensor<1>>| {
        let joined = AssertUnwindSafe(|| join(parts, 0).into_data().try_to_vec::<f32>());
        catch_unwind(joined).map(|values| values.expect("float32"))
    };
    assert_eq!(
        read(vec![there(), there()]).expect("all are there").len(),
        4
    );
    for parts in [
        vec![missing(), there()],
        vec![there(), missing(), there()],
        vec![there(), missing()],
    ] {
        let panic = read(parts).expect_err("a part is missing");
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains("can't allocate buffer of size"), "{text}");
    }
}
