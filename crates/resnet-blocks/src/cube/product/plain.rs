//! Products by the project's own kernel.

use cubecl::prelude::*;

use crate::cube::kernels::product::{DEPTH, SIDE, TILE, product, sum_of_parts};
use crate::cube::matrix::{Matrix, Storage, cubes, units};
use crate::cube::queue::Queue;

use super::operand::{Operand, Products, sizes};

/// Cubes that keep a device busy.
const MANY_CUBES: usize = 128;
/// Terms of a sum that are worth a cube of their own.
const FEWEST_TERMS: usize = 512;

/// The project's own kernel: what multiplies where cuBLASLt is missing or has no algorithm. There are as few forms of it as there are layouts and types
/// of the operands.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    /// Why no faster library multiplies, where there could be one.
    pub reason: Option<String>,
}

impl Products for Plain {
    fn name(&self) -> String {
        match &self.reason {
            None => "the program's own kernel".to_owned(),
            Some(reason) => {
                format!("the program's own kernel, because cuBLASLt cannot be opened: {reason}")
            }
        }
    }

    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    ) {
        let sizes = sizes(left, right, out);
        let (splits, terms) = division(sizes);
        if splits == 1 {
            return launch(queue, [left, right], out, (sizes, 1, terms), is_added);
        }
        let partials = Matrix::empty(queue, splits * out.rows, out.columns, Storage::F32);
        launch(
            queue,
            [left, right],
            &partials,
            (sizes, splits, terms),
            false,
        );
        let count = out.len();
        // SAFETY: one unit a value of the result, of which each partial sum has as many.
        unsafe {
            sum_of_parts::launch_unchecked(
                queue,
                cubes(count),
                units(),
                partials.argument(),
                out.argument(),
                count,
                splits,
                is_added,
                out.storage.elem(),
            );
        }
    }
}

/// How many cubes share each sum, and how many terms each of them takes. A weight's gradient has few results and very long sums.
fn division([rows, columns, depth]: [usize; 3]) -> (usize, usize) {
    let tiles = rows.div_ceil(TILE) * columns.div_ceil(TILE);
    let splits = (MANY_CUBES / tiles).min(depth / FEWEST_TERMS).max(1);
    let terms = depth.div_ceil(splits).next_multiple_of(DEPTH);
    (depth.div_ceil(terms).max(1), terms)
}

fn launch(
    queue: &Queue,
    [left, right]: [Operand<'_>; 2],
    out: &Matrix,
    ([rows, columns, depth], splits, terms): ([usize; 3], usize, usize),
    is_added: bool,
) {
    let cubes = [columns.div_ceil(TILE), rows.div_ceil(TILE), splits];
    let [x, y, z] = cubes.map(|count| count as u32);
    // SAFETY: every access is bounded by the sizes, which are the matrices' own; the result has a partial sum for each split.
    unsafe {
        product::launch_unchecked(
            queue,
            CubeCount::Static(x, y, z),
            CubeDim::new_2d(SIDE as u32, SIDE as u32),
            left.matrix.argument(),
            right.matrix.argument(),
            out.argument(),
            rows,
            columns,
            depth,
            terms,
            left.is_transposed,
            right.is_transposed,
            is_added,
            [left.matrix.storage.elem(), out.storage.elem()],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_has_one_cube_and_few_results_have_many() {
        for depth in [1, 16, 500, 1_024, 25_600, 131_072] {
            for (rows, columns) in [(64, 64), (64, 576), (3, 64), (131_072, 64)] {
                let (splits, terms) = division([rows, columns, depth]);
                assert!(splits * terms >= depth && (splits - 1) * terms < depth);
                assert!(terms.is_multiple_of(DEPTH));
                assert!(splits == 1 || terms >= FEWEST_TERMS);
            }
        }
        assert_eq!(division([64, 64, 131_072]).0, 128);
        assert_eq!(division([131_072, 64, 131_072]).0, 1);
    }
}
