//! Burn's tensors as the buffers behind them.

use burn::prelude::Tensor;

use super::forward::Device;
use super::matrix::{Matrix, Vector32};
use super::tensors::{Maker, pixels_by_channels, vector};
use crate::exposed::{concealed, exposed};

/// The device that a tensor lies on; none where it is not one of CubeCL's, or the tensor is tracked by autodiff.
pub fn device_of<const D: usize>(tensor: Tensor<D>) -> Option<Device> {
    exposed(tensor).map(|tensor| Device::of(&tensor))
}

/// What multiplies matrices on a device: cuBLASLt, the project's own kernel or CubeCL; none where the device is not one of CubeCL's.
pub fn products_of(device: &burn::prelude::Device) -> Option<String> {
    let tensor = Tensor::<1>::zeros([1], device);
    device_of(tensor).map(|device| device.products.name())
}

/// Bytes of the largest buffer that a device gives kernels; none where the device is not one of CubeCL's.
pub fn largest_buffer(device: &burn::prelude::Device) -> Option<u64> {
    let tensor = exposed(Tensor::<1>::zeros([1], &device.clone().inner()))?;
    Some(tensor.client.properties().memory.max_page_size)
}

/// A float32 tensor's values in their order.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Option<Vector32> {
    exposed(tensor).map(vector)
}

/// Pixels by channels as a `[batch, channels, height, width]` tensor of a device; none where that is not one of CubeCL's.
pub fn images_of(
    pixels: Matrix,
    batch: usize,
    size: [usize; 2],
    device: &burn::prelude::Device,
) -> Option<Tensor<4>> {
    concealed(device, |like| Maker::like(like).images(pixels, batch, size))
}

/// A `[batch, channels, height, width]` tensor as pixels by channels.
pub fn pixels(tensor: Tensor<4>) -> Option<Matrix> {
    exposed(tensor).map(pixels_by_channels)
}
