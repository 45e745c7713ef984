//! Sampling, spreading, neighbourhoods, sums of columns, and what is done value by value: the launches.

use super::kernels::{elementwise, pixels, spread};
use super::matrix::{Division, Matrix, Storage, Vector32, cubes, units};
use super::queue::Queue;

/// An image's rows and columns, and those that a stride samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) images: usize,
    pub(super) size: [usize; 2],
    pub(super) low: [usize; 2],
    pub(super) stride: usize,
}

impl Grid {
    fn low_rows(&self) -> usize {
        self.images * self.low[0] * self.low[1]
    }

    fn rows(&self) -> usize {
        self.images * self.size[0] * self.size[1]
    }
}

/// The sampled rows; where `passed` is given, zero unless it is positive there.
pub(super) fn sample(
    client: &Queue,
    grid: &Grid,
    image: &Matrix,
    passed: Option<&Matrix>,
) -> Matrix {
    let low = Matrix::empty(client, grid.low_rows(), image.columns, image.storage);
    let d = Division::of(image);
    let count = low.rows * d.columns;
    // SAFETY: one unit a vector of `low`; the grid's sampled rows lie inside the image.
    unsafe {
        pixels::sample::launch_unchecked(
            client,
            cubes(count),
            units(),
            d.width,
            image.argument(),
            passed.unwrap_or(image).argument(),
            low.argument(),
            count,
            d.columns,
            grid.size[0],
            grid.size[1],
            grid.low[0],
            grid.low[1],
            grid.stride,
            passed.is_some(),
            image.storage.elem(),
        );
    }
    low
}

/// The opposite of [`sample`], zero elsewhere.
pub(super) fn spread_rows(client: &Queue, grid: &Grid, low: &Matrix) -> Matrix {
    let image = Matrix::empty(client, grid.rows(), low.columns, low.storage);
    let d = Division::of(&image);
    let count = image.rows * d.columns;
    // SAFETY: one unit a vector of `image`.
    unsafe {
        pixels::spread_rows::launch_unchecked(
            client,
            cubes(count),
            units(),
            d.width,
            low.argument(),
            image.argument(),
            count,
            d.columns,
            grid.size[0],
            grid.size[1],
            grid.low[0],
            grid.low[1],
            grid.stride,
            low.storage.elem(),
        );
    }
    image
}

/// The 3x3 neighbourhood of each sampled row: `[low rows, 9 * channels]`.
pub(super) fn patches(client: &Queue, grid: &Grid, image: &Matrix) -> Matrix {
    let out = Matrix::empty(client, grid.low_rows(), 9 * image.columns, image.storage);
    let d = Division::of(image);
    let count = out.rows * d.columns;
    // SAFETY: one unit nine vectors of `out`; reads outside the image are left out.
    unsafe {
        pixels::patches::launch_unchecked(
            client,
            cubes(count),
            units(),
            d.width,
            image.argument(),
            out.argument(),
            count,
            d.columns,
            grid.size[0],
            grid.size[1],
            grid.low[0],
            grid.low[1],
            grid.stride,
            image.storage.elem(),
        );
    }
    out
}

/// The convolution of an interleaved map from each value's products with the nine taps, `[low rows, 9 * channels]`.
pub(super) fn interleaved_sum(
    client: &Queue,
    grid: &Grid,
    taps: &Matrix,
    constant: &Vector32,
) -> Matrix {
    let out = Matrix::empty(client, grid.rows(), taps.columns / 9, taps.storage);
    let d = Division::of(&out);
    let count = out.rows * d.columns;
    // SAFETY: one unit a vector of `out`; taps are read at rows of the low resolution only.
    unsafe {
        pixels::interleaved_sum::launch_unchecked(
            client,
            cubes(count),
            units(),
            d.width,
            taps.argument(),
            constant.argument(),
            out.argument(),
            count,
            d.columns,
            grid.size[0],
            grid.size[1],
            grid.low[0],
            grid.low[1],
            grid.stride,
            taps.storage.elem(),
        );
    }
    out
}

/// `given`, or new values.
pub(super) fn vector_or(client: &Queue, given: Option<&Vector32>, len: usize) -> Vector32 {
    match given {
        Some(vector) => {
            assert_eq!(vector.len, len, "as many values as are written");
            vector.clone()
        }
        None => Vector32::empty(client, len),
    }
}

/// Sums per channel over all rows, each times its weight where there are weights, less `subtracted`; written to `into` where that is given.
pub fn column_sums(
    client: &Queue,
    x: &Matrix,
    weights: Option<&Vector32>,
    subtracted: Option<&Vector32>,
    into: Option<&Vector32>,
) -> Vector32 {
    let d = Division::of(x);
    let partial = d.partial(client);
    let sums = vector_or(client, into, d.channels);
    // SAFETY: the division matches the buffers, and there is a weight for each row.
    unsafe {
        spread::column_sums_partial::launch_unchecked(
            client,
            d.reducing(),
            d.units(),
            d.width,
            x.argument(),
            weights.map(Vector32::argument).into(),
            partial.argument(),
            d.rows,
            d.columns,
            d.rows_per_cube,
            d.units_x,
            x.storage.elem(),
        );
        spread::column_sums_finish::launch_unchecked(
            client,
            cubes(d.channels),
            units(),
            partial.argument(),
            // Not read where nothing is subtracted.
            subtracted.unwrap_or(&partial).argument(),
            sums.argument(),
            d.channels,
            d.splits,
            u32::from(subtracted.is_some()),
        );
    }
    sums
}

/// The same values in another type; free where they have it.
pub(super) fn converted(client: &Queue, x: &Matrix, storage: Storage) -> Matrix {
    if x.storage == storage {
        return x.clone();
    }
    let out = Matrix::empty(client, x.rows, x.columns, storage);
    // SAFETY: one unit a value.
    unsafe {
        elementwise::convert::launch_unchecked(
            client,
            cubes(x.len()),
            units(),
            x.argument(),
            out.argument(),
            x.len(),
            [x.storage.elem(), storage.elem()],
        );
    }
    out
}

/// Adds a bias to every row, in place.
pub(super) fn add_bias(client: &Queue, x: &Matrix, bias: &Vector32) {
    // SAFETY: one unit a value; `bias` has one value a column.
    unsafe {
        elementwise::add_bias::launch_unchecked(
            client,
            cubes(x.len()),
            units(),
            x.argument(),
            bias.argument(),
            x.len(),
            x.columns,
            x.storage.elem(),
        );
    }
}
