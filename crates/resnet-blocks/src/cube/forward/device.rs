//! What a device offers to a block.

use std::sync::Arc;

use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;

use crate::cube::product::{Products, products};
use crate::cube::queue::Queue;

/// What a device offers to a block.
#[derive(Clone)]
pub struct Device {
    pub client: Queue,
    pub products: Arc<dyn Products>,
    /// Its index among CUDA's devices; none where it is another backend's.
    pub cuda: Option<u16>,
}

impl Device {
    /// Of the device that a tensor lies on.
    pub(in crate::cube) fn of(tensor: &CubeTensor) -> Self {
        Self {
            client: Queue::new(tensor.client.clone()),
            products: products(&tensor.client, &tensor.device),
            cuda: cuda_index(&tensor.device),
        }
    }
}

fn cuda_index(device: &CubeDevice) -> Option<u16> {
    #[cfg(feature = "cuda")]
    if let CubeDevice::Cuda(device) = device {
        return Some(device.index as u16);
    }
    let _ = device;
    None
}
