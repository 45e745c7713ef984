//! Burn's tensors as the buffers behind them.

use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::prelude::Tensor;
use burn_cubecl::CubeDevice;

use super::forward::Device;
use super::matrix::{Matrix, Vector32};
use super::product::{Products, products};
use super::queue::largest;
use super::tensors::{Maker, pixels_by_channels, vector};
use crate::exposed::{concealed, exposed};

/// The device that a tensor lies on; none where it is not one of CubeCL's, or the tensor is tracked by autodiff.
pub fn device_of<const D: usize>(tensor: Tensor<D>) -> Option<Device> {
    exposed(tensor).map(|tensor| Device::of(&tensor))
}

/// What multiplies matrices on a device: cuBLASLt, the project's own kernel or CubeCL; none where the device is not one of CubeCL's.
pub fn products_of(device: &burn::prelude::Device) -> Option<String> {
    cube_device(device).map(|device| products_on(&device).name())
}

/// What of a device's products its library was to make and had no plan for, and why, as far as is known by now.
pub fn unplanned_products_of(device: &burn::prelude::Device) -> Option<String> {
    products_on(&cube_device(device)?).unplanned()
}

/// Bytes of the largest buffer that a device gives kernels; none where the device is not one of CubeCL's.
pub fn largest_buffer(device: &burn::prelude::Device) -> Option<u64> {
    largest(&cube_device(device)?.client(), false)
}

/// The same of a [`Workspace`](super::Workspace), where a device's own step has its maps.
pub fn largest_workspace_buffer(device: &burn::prelude::Device) -> Option<u64> {
    largest(&cube_device(device)?.client(), true)
}

/// CubeCL's own, with autodiff or without: nothing is made on it.
fn cube_device(device: &burn::prelude::Device) -> Option<CubeDevice> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Cube(device) => Some(device.clone()),
        _ => None,
    }
}

fn products_on(device: &CubeDevice) -> Arc<dyn Products> {
    products(&device.client(), device)
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
