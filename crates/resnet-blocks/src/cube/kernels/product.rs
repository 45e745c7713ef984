//! The project's own matrix product.

use cubecl::prelude::*;

/// Rows and columns of the tile of the result that one cube makes.
pub(in crate::cube) const TILE: usize = 64;
/// Terms of the sum that one cube has in shared memory.
pub(in crate::cube) const DEPTH: usize = 16;
/// Units in each direction of a cube; each makes a square of `TILE / SIDE` results.
pub(in crate::cube) const SIDE: usize = 16;
/// Rows and columns of the tile that one unit makes.
const UNIT_TILE: usize = TILE / SIDE;

/// `out = left * right`, or `out += left * right`; summed in float32, in order.
///
/// The operands are row-major, or the transposes of row-major matrices. Cubes: x over tiles of columns, y over tiles of rows, z over the sum's terms, of
/// which each takes so many; where there are several, each has a result of its own, one after the other.
#[cube(launch_unchecked)]
pub(in crate::cube) fn product<F: Float, O: Float>(
    left: &[F],
    right: &[F],
    out: &mut [O],
    rows: usize,
    columns: usize,
    depth: usize,
    terms: usize,
    #[comptime] is_left_transposed: bool,
    #[comptime] is_right_transposed: bool,
    #[comptime] is_added: bool,
    #[define(F, O)] _elems: [ElemType; 2],
) {
    let first_row = CUBE_POS_Y as usize * TILE;
    let first_column = CUBE_POS_X as usize * TILE;
    let mut left_tile = Shared::<[f32]>::new_slice(comptime!(TILE * DEPTH));
    let mut right_tile = Shared::<[f32]>::new_slice(comptime!(TILE * DEPTH));
    let mut sums = Array::<f32>::new(comptime!(UNIT_TILE * UNIT_TILE));
    #[unroll]
    for result in 0..comptime!(UNIT_TILE * UNIT_TILE) {
        sums[result] = 0.0f32;
    }
    let unit = UNIT_POS as usize;
    let unit_row = (unit / SIDE) * UNIT_TILE;
    let unit_column = (unit % SIDE) * UNIT_TILE;
    let mut start = CUBE_POS_Z as usize * terms;
    let end = min(start + terms, depth);
    while start < end {
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
            if first_row + row < rows && start + term < end {
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
            if first_column + column < columns && start + term < end {
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
            for i in 0..UNIT_TILE {
                let value = left_tile[term * TILE + unit_row + i];
                #[unroll]
                for j in 0..UNIT_TILE {
                    sums[i * UNIT_TILE + j] += value * right_tile[term * TILE + unit_column + j];
                }
            }
        }
        sync_cube();
        start += DEPTH;
    }
    #[unroll]
    for i in 0..UNIT_TILE {
        #[unroll]
        for j in 0..UNIT_TILE {
            let row = first_row + unit_row + i;
            let column = first_column + unit_column + j;
            if row < rows && column < columns {
                let position = (CUBE_POS_Z as usize * rows + row) * columns + column;
                let mut sum = sums[i * UNIT_TILE + j];
                if comptime!(is_added) {
                    sum += f32::cast_from(out[position]);
                }
                out[position] = O::cast_from(sum);
            }
        }
    }
}

/// `out = sum of partials`, or `out += sum of partials`, which lie one after the other; in their order.
#[cube(launch_unchecked)]
pub(in crate::cube) fn sum_of_parts<O: Float>(
    partials: &[f32],
    out: &mut [O],
    count: usize,
    splits: usize,
    #[comptime] is_added: bool,
    #[define(O)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mut sum = 0.0f32;
    for split in 0..splits {
        sum += partials[split * count + ABSOLUTE_POS];
    }
    if comptime!(is_added) {
        sum += f32::cast_from(out[ABSOLUTE_POS]);
    }
    out[ABSOLUTE_POS] = O::cast_from(sum);
}
