//! How fast the device multiplies two large square matrices: what a training step is compared with.

use std::time::Instant;

use burn::prelude::*;
use burn::tensor::{Distribution, FloatDType};

use super::error::GpuCheckError;
use super::part::Scale;
use super::row::ProductRow;
use crate::device::DeviceError;
use run_files::settings::{DeviceChoice, Precision};

/// Products before those that count: the first ones compile and tune kernels.
const WARMUP: usize = 4;

/// Times products in that precision.
///
/// # Errors
/// Where the device fails.
pub(super) fn time_products(
    precision: Precision,
    scale: Scale,
    choice: DeviceChoice,
    device: &Device,
) -> Result<ProductRow, GpuCheckError> {
    let size = scale.product_size;
    let lost = |reason: String| DeviceError::Lost {
        device: choice,
        reason,
    };
    let wait = || device.sync().map_err(|error| lost(error.to_string()));
    // A product of two such matrices has values of the same size.
    let bound = (3.0 / size as f64).sqrt();
    let random = || {
        let values =
            Tensor::<2>::random([size, size], Distribution::Uniform(-bound, bound), device);
        match precision {
            Precision::F32 => values,
            Precision::Bf16 => values.cast(FloatDType::BF16),
        }
    };
    let (left, right) = (random(), random());
    let mut sum = Tensor::<2>::zeros([1, 1], device);
    let mut multiply = |times: usize| {
        for _ in 0..times {
            let product = left.clone().matmul(right.clone());
            // One value of each is used, so that no backend can leave a product out.
            let value = product.slice([0..1, 0..1]).cast(FloatDType::F32);
            sum = sum.clone() + value;
        }
        wait()
    };
    multiply(WARMUP)?;
    let mut times = 1;
    let seconds = loop {
        let began = Instant::now();
        multiply(times)?;
        let seconds = began.elapsed().as_secs_f64();
        if seconds >= scale.product_seconds {
            break seconds / times as f64;
        }
        times *= 2;
    };
    let sum = sum.try_into_scalar::<f32>();
    let sum = sum.map_err(|error| lost(error.to_string()))?;
    if !sum.is_finite() {
        return Err(lost(format!("products of finite matrices add up to {sum}")).into());
    }
    Ok(ProductRow {
        precision,
        size,
        seconds,
        operations_per_second: 2.0 * (size as f64).powi(3) / seconds,
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_two_operations_a_multiply_accumulate() {
        let scale = Scale {
            product_size: 16,
            product_seconds: 1e-3,
            ..Scale::TINY
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let device = Device::flex();
            let row = time_products(precision, scale, DeviceChoice::Flex, &device).expect("timed");
            let operations = row.operations_per_second * row.seconds;
            assert!((operations - 2.0 * 16.0 * 16.0 * 16.0).abs() < 1e-6);
        }
    }
}
