//! Burn's tensors as matrices with channels last, and back.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::prelude::Shape;
use burn::tensor::{DType, FloatDType};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;

use super::matrix::{Matrix, Storage, Vector32};

/// A tensor's type in memory.
///
/// # Panics
/// If the kernels do not know it: the dispatch asks beforehand.
pub(super) fn storage(dtype: DType) -> Storage {
    match dtype {
        DType::F32 => Storage::F32,
        DType::BF16 => Storage::Bf16,
        other => panic!("the kernels take float32 and bfloat16, not {other:?}"),
    }
}

fn dtype(storage: Storage) -> DType {
    match storage {
        Storage::F32 => DType::F32,
        Storage::Bf16 => DType::BF16,
    }
}

/// A `[batch, channels, height, width]` tensor as pixels by channels; free where its strides say channels last.
pub(super) fn pixels_by_channels(tensor: CubeTensor) -> Matrix {
    let shape = tensor.shape();
    // The strides of images of one pixel, a dense layer's rows, tell of no order: exchanged axes would be copied for nothing.
    let tensor = match shape[2] * shape[3] {
        1 => into_contiguous(tensor),
        _ => into_contiguous(permute_nchw_to_nhwc(tensor)),
    };
    Matrix {
        rows: shape[0] * shape[2] * shape[3],
        columns: shape[1],
        storage: storage(tensor.dtype),
        buffer: tensor.handle.into(),
    }
}

/// A tensor of any shape as a matrix of `rows` rows.
pub(super) fn matrix(tensor: CubeTensor, rows: usize) -> Matrix {
    let tensor = into_contiguous(tensor);
    let len = tensor.shape().num_elements();
    Matrix {
        rows,
        columns: len / rows,
        storage: storage(tensor.dtype),
        buffer: tensor.handle.into(),
    }
}

/// A float32 parameter.
pub(super) fn vector(tensor: CubeTensor) -> Vector32 {
    let tensor = into_contiguous(tensor);
    assert_eq!(tensor.dtype, DType::F32, "parameters are float32");
    Vector32 {
        len: tensor.shape().num_elements(),
        buffer: tensor.handle.into(),
    }
}

/// Makes tensors on the device of another.
pub(super) struct Maker {
    like: CubeTensor,
}

impl Maker {
    pub(super) fn like(tensor: &CubeTensor) -> Self {
        Self {
            like: tensor.clone(),
        }
    }

    pub(super) fn tensor(&self, matrix: Matrix, shape: impl Into<Shape>) -> CubeTensor {
        let shape = shape.into();
        assert_eq!(
            shape.num_elements(),
            matrix.len(),
            "as many values as the shape has"
        );
        CubeTensor::new_contiguous(
            self.like.client.clone(),
            self.like.device.clone(),
            shape,
            matrix.buffer.handle(),
            dtype(matrix.storage),
        )
    }

    pub(super) fn vector(&self, vector: Vector32, shape: impl Into<Shape>) -> CubeTensor {
        let matrix = Matrix {
            rows: 1,
            columns: vector.len,
            storage: Storage::F32,
            buffer: vector.buffer,
        };
        self.tensor(matrix, shape)
    }

    /// Pixels by channels as `[batch, channels, height, width]`; only the strides tell of the order.
    pub(super) fn images(
        &self,
        matrix: Matrix,
        batch: usize,
        [height, width]: [usize; 2],
    ) -> CubeTensor {
        let channels = matrix.columns;
        if height * width == 1 {
            return self.tensor(matrix, [batch, channels, 1, 1]);
        }
        permute_nhwc_to_nchw(self.tensor(matrix, [batch, height, width, channels]))
    }
}

/// Zeros on the device of `like`, float32.
pub(super) fn zeros(len: usize, like: &CubeTensor) -> CubeTensor {
    CubeBackend::float_zeros(Shape::new([len]), &like.device, FloatDType::F32)
}

/// The first values of a vector in another shape, sharing its memory.
pub(super) fn first_values(vector: &CubeTensor, shape: Shape) -> CubeTensor {
    assert!(
        shape.num_elements() <= vector.shape().num_elements(),
        "no more values than there are"
    );
    CubeTensor::new_contiguous(
        vector.client.clone(),
        vector.device.clone(),
        shape,
        vector.handle.clone(),
        vector.dtype,
    )
}
