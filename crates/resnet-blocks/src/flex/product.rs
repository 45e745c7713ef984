//! Matrix products over slices: the only place where pointers are made.
//!
//! Invariants of the one `unsafe` call, all asserted before it:
//! - every element that a factor's strides reach lies inside its slice;
//! - every element of the destination that is written lies inside its slice, and no two of its columns overlap, since
//!   its rows are adjacent and its columns at least as far apart as it has rows;
//! - the destination is borrowed mutably, the factors are not, so they cannot overlap;
//! - the element type is `f32` or `f64`, the two that implement [`Real`].
#![allow(unsafe_code)]

use crate::flex::element::Real;

/// A factor: element `(row, column)` is at `row * row_stride + column * column_stride`. Strides may make rows or columns
/// overlap, as neighbouring windows of an image do.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a, T> Factor<'a, T> {
    /// Adjacent rows; columns `column_stride` apart.
    pub(crate) fn columns(data: &'a [T], column_stride: usize) -> Self {
        Self {
            data,
            row_stride: 1,
            column_stride,
        }
    }

    /// Adjacent columns; rows `row_stride` apart.
    pub(crate) fn rows(data: &'a [T], row_stride: usize) -> Self {
        Self {
            data,
            row_stride,
            column_stride: 1,
        }
    }

    fn covers(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// What becomes of the destination's old content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Overwrite,
    Accumulate,
}

/// `destination (+)= left x right` on the calling thread.
///
/// The destination is `rows x columns` with adjacent rows and columns `stride` apart; `left` is `rows x depth`, `right`
/// is `depth x columns`.
///
/// # Panics
/// If a slice is too short for its strides.
pub(crate) fn multiply<T: Real>(
    destination: &mut [T],
    stride: usize,
    [rows, columns, depth]: [usize; 3],
    left: Factor<T>,
    right: Factor<T>,
    mode: Mode,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        stride >= rows || columns == 1,
        "columns {stride} apart overlap, having {rows} rows"
    );
    assert!(
        rows - 1 + (columns - 1) * stride < destination.len(),
        "the destination is too short"
    );
    assert!(left.covers(rows, depth), "the left factor is too short");
    assert!(
        right.covers(depth, columns),
        "the right factor is too short"
    );
    // SAFETY: see the invariants at the top, each asserted above or given by the types.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            destination.as_mut_ptr(),
            stride as isize,
            1,
            mode == Mode::Accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_matches_its_definition_for_overlapping_windows() {
        // Windows of length 3 over a signal, times a 2 x 3 matrix.
        let signal = [1.0f64, 2.0, 3.0, 4.0, 5.0];
        let weights = [1.0, 10.0, 100.0, 2.0, 20.0, 200.0];
        let mut output = vec![1.0; 6];
        multiply(
            &mut output,
            2,
            [2, 3, 3],
            Factor::rows(&weights, 3),
            Factor::columns(&signal, 1),
            Mode::Accumulate,
        );
        assert_eq!(output, [322.0, 643.0, 433.0, 865.0, 544.0, 1087.0]);
        multiply(
            &mut output,
            2,
            [2, 3, 0],
            Factor::rows(&weights, 3),
            Factor::columns(&signal, 1),
            Mode::Overwrite,
        );
        assert_eq!(output, [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "right factor is too short")]
    fn a_short_factor_is_refused() {
        multiply(
            &mut [0.0f32; 4],
            2,
            [2, 2, 2],
            Factor::rows(&[0.0; 4], 2),
            Factor::rows(&[0.0; 3], 2),
            Mode::Overwrite,
        );
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_columns_of_the_destination_are_refused() {
        multiply(
            &mut [0.0f32; 4],
            1,
            [2, 2, 1],
            Factor::rows(&[0.0; 2], 1),
            Factor::rows(&[0.0; 2], 2),
            Mode::Overwrite,
        );
    }
}
