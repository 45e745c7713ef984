//! Burn's tensors as CubeCL's, below everything that computes with them.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::prelude::{Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// Where an exposed tensor is left.
#[derive(Clone, Default)]
pub(crate) struct Exposed(Arc<Mutex<Option<CubeTensor>>>);

/// An operation that computes nothing: it leaves its operand where the caller finds it.
#[backend_extension(Cube: cfg(feature = "cube"))]
pub(crate) trait Expose: Backend {
    fn expose(tensor: FloatTensor<Self>, into: Exposed) -> FloatTensor<Self>;

    /// The opposite: what the caller has left, in place of a tensor on the same device.
    fn replace(tensor: FloatTensor<Self>, by: Exposed) -> FloatTensor<Self>;
}

impl Expose for CubeBackend {
    fn expose(tensor: CubeTensor, into: Exposed) -> CubeTensor {
        let mut exposed = into.0.lock().unwrap_or_else(PoisonError::into_inner);
        *exposed = Some(tensor.clone());
        tensor
    }

    fn replace(tensor: CubeTensor, by: Exposed) -> CubeTensor {
        let mut left = by.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.take().unwrap_or(tensor)
    }
}

/// None where the tensor is not on one of CubeCL's devices, or tracked by autodiff.
pub(crate) fn exposed<const D: usize>(tensor: Tensor<D>) -> Option<CubeTensor> {
    if !matches!(tensor.device().as_dispatch(), DispatchDevice::Cube(_)) {
        return None;
    }
    let into = Exposed::default();
    let _same = Dispatch::expose(tensor.into_dispatch(), into.clone());
    let mut found = into.0.lock().unwrap_or_else(PoisonError::into_inner);
    found.take()
}

/// A tensor of Burn's from one of CubeCL's, made on a device with `make`, which gets a tensor there. None where the device is not one of CubeCL's.
pub(crate) fn concealed<const D: usize>(
    device: &Device,
    make: impl FnOnce(&CubeTensor) -> CubeTensor,
) -> Option<Tensor<D>> {
    let like = Tensor::<D>::zeros([1; D], &device.clone().inner());
    let made = make(&exposed(like.clone())?);
    let by = Exposed(Arc::new(Mutex::new(Some(made))));
    Some(Tensor::from_dispatch(Dispatch::replace(
        like.into_dispatch(),
        by,
    )))
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
