//! The sum of a vector over devices: by Burn's all-reduce between GPUs, by plain additions elsewhere.

use burn::prelude::*;

use crate::ranks::tree_sum::TreeSum;

/// Sums vectors of several devices, in two halves: every device's thread joins with its own vector, and the main device's
/// thread then finishes with what it was sent.
#[derive(Clone, Debug)]
pub(crate) struct AllReduce {
    /// Of the vectors, the main device first.
    devices: Vec<Device>,
    /// Whether the sum is already everywhere once all have joined.
    is_collective: bool,
}

impl AllReduce {
    /// Between these devices, which are not autodiff ones; by a collective operation where they are GPUs.
    pub(crate) fn new(devices: Vec<Device>, are_cuda: bool) -> Self {
        let is_collective = devices.len() > 1 && are_cuda;
        Self {
            devices,
            is_collective,
        }
    }

    /// The device that takes the sum.
    pub(crate) fn main_device(&self) -> &Device {
        &self.devices[0]
    }

    /// A device's own vector, or between GPUs the sum over all of them; call it on the thread of the vector's device.
    ///
    /// `is_complete` says whether every device joins, without which there is no collective operation.
    pub(crate) fn join(&self, vector: Tensor<1>, is_complete: bool) -> Tensor<1> {
        if self.is_collective && is_complete {
            return collective_sum(vector, &self.devices);
        }
        vector
    }

    /// The sum on the main device, from its own joined vector and those of the others in their order.
    pub(crate) fn finish(
        &self,
        own: Tensor<1>,
        others: Vec<Tensor<1>>,
        is_complete: bool,
    ) -> Tensor<1> {
        if self.is_collective && is_complete {
            return own;
        }
        let device = own.device();
        let mut sum = TreeSum::new();
        sum.add(own, Tensor::add);
        for other in others {
            sum.add(other.to_device(&device), Tensor::add);
        }
        let sum = sum.finish(Tensor::add);
        sum.expect("the main device's own is one")
    }
}

/// NCCL's all-reduce, by way of Burn. Compiled, and not seen running: that needs two GPUs.
#[cfg(feature = "cuda")]
fn collective_sum(vector: Tensor<1>, devices: &[Device]) -> Tensor<1> {
    use burn::tensor::distributed::{ReduceOperation, all_reduce};
    all_reduce(vector, ReduceOperation::Sum, devices.to_vec()).resolve()
}

#[cfg(not(feature = "cuda"))]
fn collective_sum(vector: Tensor<1>, _: &[Device]) -> Tensor<1> {
    vector
}
