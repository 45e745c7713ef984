//! Burn's tensors as the buffers behind them.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::prelude::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::forward::Device;
use super::matrix::{Matrix, Vector32};
use super::tensors::{pixels_by_channels, vector};

/// Where an exposed tensor is left.
#[derive(Clone, Default)]
pub(crate) struct Exposed(Arc<Mutex<Option<CubeTensor>>>);

/// An operation that computes nothing: it leaves its operand where the caller finds it.
#[backend_extension(Cube: cfg(feature = "cube"))]
pub(crate) trait Expose: Backend {
    fn expose(tensor: FloatTensor<Self>, into: Exposed) -> FloatTensor<Self>;
}

impl Expose for CubeBackend {
    fn expose(tensor: CubeTensor, into: Exposed) -> CubeTensor {
        let mut exposed = into.0.lock().unwrap_or_else(PoisonError::into_inner);
        *exposed = Some(tensor.clone());
        tensor
    }
}

/// None where the tensor is not on one of CubeCL's devices, or tracked by autodiff.
fn exposed<const D: usize>(tensor: Tensor<D>) -> Option<CubeTensor> {
    if !matches!(tensor.device().as_dispatch(), DispatchDevice::Cube(_)) {
        return None;
    }
    let into = Exposed::default();
    let _same = Dispatch::expose(tensor.into_dispatch(), into.clone());
    let mut found = into.0.lock().unwrap_or_else(PoisonError::into_inner);
    found.take()
}

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

/// Why any of these tensors was not computed, by what has been asked for so far; none where all were, or no GPU computes them.
pub(crate) fn failure_of<const D: usize>(tensors: &[Tensor<D>]) -> Option<String> {
    let tensors = tensors.iter().cloned();
    let exposed: Vec<CubeTensor> = tensors
        .filter_map(|tensor| exposed(tensor.without_autodiff()))
        .collect();
    let first = exposed.first()?;
    let handles = exposed.iter().map(|tensor| &tensor.handle);
    let error = first.client.check(handles).err()?;
    Some(error.to_string())
}

/// A float32 tensor's values in their order.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Option<Vector32> {
    exposed(tensor).map(vector)
}

/// A `[batch, channels, height, width]` tensor as pixels by channels.
pub fn pixels(tensor: Tensor<4>) -> Option<Matrix> {
    exposed(tensor).map(pixels_by_channels)
}
