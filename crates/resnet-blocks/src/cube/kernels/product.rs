//! The plain matrix product: the reference for the libraries'.

use cubecl::prelude::*;

/// Rows and columns of the part of the result that one cube makes.
pub(in crate::cube) const TILE: usize = 64;
/// Terms of the sum that one cube has in shared memory.
const DEPTH: usize = 16;
/// Units in each direction of a cube; each makes a square of `TILE / SIDE` results.
pub(in crate::cube) const SIDE: usize = 16;
const PART: usize = 4;

/// `out = left * right`, or `out += left * right`; summed in float32, in order.
///
/// The operands are row-major, or the transposes of row-major matrices. Cubes: x over tiles of columns, y over tiles of rows.
#[cube(launch_unchecked)]
pub(in crate::cube) fn product<F: Float, O: Float>(
    left: &[F],
    right: &[F],
    out: &mut [O],
    rows: usize,
    columns: usize,
    depth: usize,
    #[comptime] is_left_transposed: bool,
    #[comptime] is_right_transposed: bool,
    #[comptime] is_added: bool,
    #[define(F, O)] _elems: [ElemType; 2],
) {
    let first_row = CUBE_POS_Y as usize * TILE;
    let first_column = CUBE_POS_X as usize * TILE;
    let mut left_tile = Shared::<[f32]>::new_slice(comptime!(TILE * DEPTH));
    let mut right_tile = Shared::<[f32]>::new_slice(comptime!(TILE * DEPTH));
    let mut sums = Array::<f32>::new(comptime!(PART * PART));
    #[unroll]
    for part in 0..comptime!(PART * PART) {
        sums[part] = 0.0f32;
    }
    let unit = UNIT_POS as usize;
    let unit_row = (unit / SIDE) * PART;
    let unit_column = (unit % SIDE) * PART;
    let mut start = 0usize;
    while start < depth {
        #[unroll]
        for step in 0..comptime!(TILE * DEPTH / (SIDE * SIDE)) {
            let index = unit + step * comptime!(SIDE * SIDE);
            // Neighbouring units read neighbouring addresses.
            let (row, term) = if comptime!(is_left_transposed) {
                (index % TILE, index / TILE)
            } else {
                (index / DEPTH, index % DEPTH)
            };
            let mut value = 0.0f32;
            if first_row + row < rows && start + term < depth {
                if comptime!(is_left_transposed) {
                    value = f32::cast_from(left[(start + term) * rows + first_row + row]);
                } else {
                    value = f32::cast_from(left[(first_row + row) * depth + start + term]);
                }
            }
            left_tile[term * TILE + row] = value;
            let (column, term) = if comptime!(is_right_transposed) {
                (index / DEPTH, index % DEPTH)
            } else {
                (index % TILE, index / TILE)
            };
            let mut value = 0.0f32;
            if first_column + column < columns && start + term < depth {
                if comptime!(is_right_transposed) {
                    value = f32::cast_from(right[(first_column + column) * depth + start + term]);
                } else {
                    value = f32::cast_from(right[(start + term) * columns + first_column + column]);
                }
            }
            right_tile[term * TILE + column] = value;
        }
        sync_cube();
        for term in 0..DEPTH {
            #[unroll]
            for i in 0..PART {
                let value = left_tile[term * TILE + unit_row + i];
                #[unroll]
                for j in 0..PART {
                    sums[i * PART + j] += value * right_tile[term * TILE + unit_column + j];
                }
            }
        }
        sync_cube();
        start += DEPTH;
    }
    #[unroll]
    for i in 0..PART {
        #[unroll]
        for j in 0..PART {
            let row = first_row + unit_row + i;
            let column = first_column + unit_column + j;
            if row < rows && column < columns {
                let position = row * columns + column;
                let mut sum = sums[i * PART + j];
                if comptime!(is_added) {
                    sum += f32::cast_from(out[position]);
                }
                out[position] = O::cast_from(sum);
            }
        }
    }
}
