//! Products by CubeCL's own kernels, with one strategy: nothing is tuned.

use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::std::InputBinding;

use crate::cube::kernels::elementwise;
use crate::cube::matrix::{Matrix, cubes, units};
use crate::cube::queue::Queue;

use super::operand::{Operand, Products, sizes};

/// CubeCL's own products without tensor cores, which take float32 in a shorter form, and whose kernels need headers of CUDA that machines without
/// cuBLASLt may lack. To compare with: a step has dozens of their kernels, which take minutes to compile.
pub struct CubeClProducts;

impl Products for CubeClProducts {
    fn name(&self) -> String {
        "CubeCL".to_owned()
    }

    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    ) {
        sizes(left, right, out);
        if !is_added {
            return product(queue, left, right, out);
        }
        let product_of_both = Matrix::empty(queue, out.rows, out.columns, out.storage);
        product(queue, left, right, &product_of_both);
        // SAFETY: one unit a value of each.
        unsafe {
            elementwise::add::launch_unchecked(
                queue,
                cubes(out.len()),
                units(),
                product_of_both.argument(),
                out.argument(),
                out.len(),
                out.storage.elem(),
            );
        }
    }
}

fn product(queue: &Queue, left: Operand<'_>, right: Operand<'_>, out: &Matrix) {
    if let Err(error) = launch(queue, left, right, out) {
        panic!(
            "no product of {} x {} and {} x {} values: {error:?}",
            left.rows(),
            left.columns(),
            right.rows(),
            right.columns()
        );
    }
}

#[allow(clippy::result_large_err)] // The library's own.
fn launch(
    queue: &Queue,
    left: Operand<'_>,
    right: Operand<'_>,
    out: &Matrix,
) -> Result<(), MatmulSetupError> {
    let elem = left.matrix.storage.elem();
    let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: elem,
        rhs: elem,
        out: out.storage.elem(),
    });
    launch_ref(
        &Strategy::SimpleUnit(Default::default()).into(),
        queue,
        InputBinding::new(binding(left), elem),
        InputBinding::new(binding(right), elem),
        binding(out.plain()),
        &mut elems,
    )
}

/// An operand as a tensor of two dimensions.
fn binding(operand: Operand<'_>) -> TensorBinding {
    let Matrix {
        buffer, columns, ..
    } = operand.matrix;
    let strides = match operand.is_transposed {
        false => [*columns, 1],
        true => [1, *columns],
    };
    let shape = [operand.rows(), operand.columns()];
    // SAFETY: the buffer holds the matrix, row by row.
    unsafe { TensorBinding::from_raw_parts(buffer.handle(), strides.into(), shape.into()) }
}
