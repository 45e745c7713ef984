//! How fast the device multiplies two large square matrices: what a training step is compared with.

use std::time::Instant;

use burn::prelude::*;
use burn::tensor::{Distribution, FloatDType};

use super::error::GpuCheckError;
use super::part::Scale;
use super::row::ProductRow;
use crate::device::DeviceError;
#[cfg(feature = "cuda")]
use crate::device::unplanned_products;
use run_files::settings::{DeviceChoice, Precision};

/// Products before those that count: the first ones compile and tune kernels.
const WARMUP: usize = 4;

/// Times products in that precision; `ready` is told when their kernels are compiled.
///
/// # Errors
/// Where the device fails.
pub(super) fn time_products(
    precision: Precision,
    scale: Scale,
    (choice, on): (DeviceChoice, &Device),
    ready: &mut dyn FnMut(),
) -> Result<ProductRow, GpuCheckError> {
    let size = scale.product_size;
    let lost = |reason: String| DeviceError::Lost {
        device: choice,
        reason,
    };
    let wait = || on.sync().map_err(|error| lost(error.to_string()));
    // A product of two such matrices has values of the same size.
    let bound = (3.0 / size as f64).sqrt();
    let random = || {
        let values = Tensor::<2>::random([size, size], Distribution::Uniform(-bound, bound), on);
        match precision {
            Precision::F32 => values,
            Precision::Bf16 => values.cast(FloatDType::BF16),
        }
    };
    #[cfg(feature = "cuda")]
    if let Some(device) = resnet_blocks::cube::device_of(random()) {
        let seconds = own::seconds(&device, precision, (scale, ready), wait)?;
        return Ok(ProductRow {
            unplanned_products: unplanned_products(on),
            ..row(precision, size, seconds)
        });
    }
    let (left, right) = (random(), random());
    let mut sum = Tensor::<2>::zeros([1, 1], on);
    let mut multiply = |times: usize| {
        for _ in 0..times {
            let product = left.clone().matmul(right.clone());
            // One value of each is used, so that no backend can leave a product out.
            let value = product.slice([0..1, 0..1]).cast(FloatDType::F32);
            sum = sum.clone() + value;
        }
        wait()
    };
    let seconds = seconds_each(scale, ready, &mut multiply)?;
    let sum = sum.try_into_scalar::<f32>();
    let sum = sum.map_err(|error| lost(error.to_string()))?;
    if !sum.is_finite() {
        return Err(lost(format!("products of finite matrices add up to {sum}")).into());
    }
    Ok(row(precision, size, seconds))
}

fn row(precision: Precision, size: usize, seconds: f64) -> ProductRow {
    ProductRow {
        precision,
        size,
        seconds,
        operations_per_second: 2.0 * (size as f64).powi(3) / seconds,
        unplanned_products: None,
    }
}

/// Seconds of one of the products that `multiply` makes so many of and waits for: of as many as take the scale's time.
fn seconds_each<E>(
    scale: Scale,
    ready: &mut dyn FnMut(),
    mut multiply: impl FnMut(usize) -> Result<(), E>,
) -> Result<f64, E> {
    multiply(WARMUP)?;
    ready();
    let mut times = 1;
    loop {
        let began = Instant::now();
        multiply(times)?;
        let seconds = began.elapsed().as_secs_f64();
        if seconds >= scale.product_seconds {
            return Ok(seconds / times as f64);
        }
        times *= 2;
    }
}

/// What the steps of CUDA's devices multiply with.
#[cfg(feature = "cuda")]
mod own {
    use cubecl::bytes::Bytes;
    use resnet_blocks::cube::{Device, Matrix, Storage};
    use run_files::settings::Precision;

    use super::{Scale, seconds_each};
    use crate::device::DeviceError;

    pub(super) fn seconds(
        device: &Device,
        precision: Precision,
        (scale, ready): (Scale, &mut dyn FnMut()),
        wait: impl Fn() -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        let size = scale.product_size;
        // Between -1 and 1, and no two rows alike.
        let values = |index: usize| (index * 7919 % 10_007) as f32 / 5_003.5 - 1.0;
        let matrix = || {
            let all = (0..size * size).map(values);
            let (storage, bytes) = match precision {
                Precision::F32 => (Storage::F32, Bytes::from_elems(all.collect::<Vec<f32>>())),
                Precision::Bf16 => {
                    let bits = all.map(|value| (value.to_bits() >> 16) as u16);
                    (Storage::Bf16, Bytes::from_elems(bits.collect::<Vec<u16>>()))
                }
            };
            let matrix = Matrix::empty(&device.client, size, size, storage);
            device.client.write(&matrix.buffer.handle(), bytes);
            matrix
        };
        let [left, right, out] = [(); 3].map(|()| matrix());
        seconds_each(scale, ready, |times| {
            for _ in 0..times {
                let (left, right) = (left.plain(), right.plain());
                device
                    .products
                    .multiply(&device.client, left, right, &out, false);
            }
            wait()
        })
    }
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
            let row = time_products(precision, scale, (DeviceChoice::Flex, &device), &mut || {});
            let row = row.expect("timed");
            let operations = row.operations_per_second * row.seconds;
            assert!((operations - 2.0 * 16.0 * 16.0 * 16.0).abs() < 1e-6);
        }
    }
}
