//! What is multiplied, and what multiplies.

use crate::cube::matrix::Matrix;
use crate::cube::queue::Queue;

/// One of a product's operands: a matrix, or its transpose.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub matrix: &'a Matrix,
    pub is_transposed: bool,
}

impl<'a> Operand<'a> {
    pub fn rows(&self) -> usize {
        if self.is_transposed {
            self.matrix.columns
        } else {
            self.matrix.rows
        }
    }

    pub fn columns(&self) -> usize {
        if self.is_transposed {
            self.matrix.rows
        } else {
            self.matrix.columns
        }
    }
}

impl Matrix {
    pub fn plain(&self) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed: false,
        }
    }

    pub fn transposed(&self) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed: true,
        }
    }

    /// The matrix, or its transpose.
    pub fn operand(&self, is_transposed: bool) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed,
        }
    }
}

/// Rows, columns and inner dimension of a product.
///
/// # Panics
/// If the sizes do not match.
pub(super) fn sizes(left: Operand<'_>, right: Operand<'_>, out: &Matrix) -> [usize; 3] {
    assert_eq!(
        (left.columns(), left.rows(), right.columns()),
        (right.rows(), out.rows, out.columns),
        "sizes of a product's inner dimension and result"
    );
    [out.rows, out.columns, left.columns()]
}

/// What multiplies matrices on a device.
pub trait Products: Send + Sync {
    /// What multiplies, as users know it.
    fn name(&self) -> String;

    /// What of the products that it was asked for something slower made, and why, as far as is known by now.
    fn unplanned(&self) -> Option<String> {
        None
    }

    /// What has gone wrong with a product that was asked for, as far as is known by now.
    fn failure(&self) -> Option<String> {
        None
    }

    /// As [`failure`](Self::failure), which it forgets: for whoever makes good what went wrong.
    fn take_failure(&self) -> Option<String> {
        None
    }

    /// `out = left * right`, or `out += left * right`. Operands have one type, the result may be float32; sums are float32.
    ///
    /// # Panics
    /// If the sizes do not match.
    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    );
}
