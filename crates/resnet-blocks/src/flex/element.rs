//! The element types that the fast forms know.

use std::ops::{Add, AddAssign, Mul, Sub};

use burn::tensor::Element;

/// `f32` or `f64`.
pub(crate) trait Real:
    Element
    + bytemuck::Pod
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + PartialOrd
    + Default
    + Send
    + Sync
{
    const ZERO: Self;
    const ONE: Self;
    fn widen(self) -> f64;
    fn narrow(value: f64) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn widen(self) -> f64 {
        self as f64
    }
    fn narrow(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn widen(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> Self {
        value
    }
}

/// `max(value, 0)`; a NaN stays one.
#[inline(always)]
pub(crate) fn relu<T: Real>(value: T) -> T {
    if value <= T::ZERO { T::ZERO } else { value }
}

pub(crate) fn narrow<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::narrow(*value)).collect()
}

/// The `columns x rows` transpose of a `rows x columns` matrix, both with the last axis fastest.
pub(crate) fn transpose<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    assert_eq!(values.len(), rows * columns);
    let mut transposed = vec![T::default(); values.len()];
    for (column, to) in transposed.chunks_exact_mut(rows.max(1)).enumerate() {
        for (row, to) in to.iter_mut().enumerate() {
            *to = values[row * columns + column];
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relu_keeps_a_nan() {
        assert!(relu(f32::NAN).is_nan());
        assert_eq!([relu(-1.0f64), relu(0.0), relu(2.0)], [0.0, 0.0, 2.0]);
    }

    #[test]
    fn transpose_exchanges_the_axes() {
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], 2, 3), [1, 4, 2, 5, 3, 6]);
    }
}
