//! Before and after the numbers of single values: their precision, and their sum over an image.

use burn::prelude::*;
use burn::tensor::{DType, FloatDType};

/// In float32, unless it is in float64.
pub(super) fn full_precision(tensor: Tensor<4>) -> Tensor<4> {
    match tensor.dtype() {
        DType::F64 | DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}

/// The sum over all but the first axis.
pub(super) fn per_image<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    values.flatten::<2>(1, D - 1).sum_dim(1).squeeze_dim::<1>(1)
}
