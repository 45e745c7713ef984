//! Products by the plain kernel.

use cubecl::prelude::*;

use crate::cube::kernels::product::{SIDE, TILE, product};
use crate::cube::matrix::Matrix;
use crate::cube::queue::Queue;

use super::{Operand, Products, sizes};

/// The plain kernel: the reference for the libraries, and what multiplies where cuBLASLt has no algorithm.
pub struct Plain;

impl Products for Plain {
    fn name(&self) -> String {
        "the plain kernel".to_owned()
    }

    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    ) {
        let [rows, columns, depth] = sizes(left, right, out);
        let cubes = CubeCount::Static(columns.div_ceil(TILE) as u32, rows.div_ceil(TILE) as u32, 1);
        // SAFETY: every access is bounded by the sizes, which are the matrices' own.
        unsafe {
            product::launch_unchecked(
                queue,
                cubes,
                CubeDim::new_2d(SIDE as u32, SIDE as u32),
                left.matrix.argument(),
                right.matrix.argument(),
                out.argument(),
                rows,
                columns,
                depth,
                left.is_transposed,
                right.is_transposed,
                is_added,
                [left.matrix.storage.elem(), out.storage.elem()],
            );
        }
    }
}
