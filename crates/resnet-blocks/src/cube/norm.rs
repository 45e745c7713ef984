//! Batch norm over the rows of a matrix, forward and backward: the launches.

use cubecl::prelude::*;

use super::kernels::{gradient, moments, tail};
use super::matrix::{Division, Matrix, Vector32, cubes, units};
use super::queue::Queue;

/// The units of a cube that finishes a reduction.
fn finishing_units() -> CubeDim {
    CubeDim::new_2d(32, 8)
}

/// What a norm takes off and multiplies with; `[channels]` each.
#[derive(Clone)]
pub struct Statistics {
    /// Of the product without its bias.
    pub mean: Vector32,
    /// `1 / sqrt(variance + epsilon)`
    pub inverse: Vector32,
}

/// A norm's parameters; `[channels]` each.
#[derive(Clone)]
pub struct Affine {
    pub gamma: Vector32,
    pub beta: Vector32,
}

/// Moments of one norm's input, of a batch or running; `[channels]` each.
#[derive(Clone)]
pub struct Moments {
    /// A batch's is that of the product without its bias.
    pub mean: Vector32,
    /// The mean square about the mean, of all values.
    pub variance: Vector32,
}

impl Moments {
    fn empty(client: &Queue, channels: usize) -> Self {
        Self {
            mean: Vector32::empty(client, channels),
            variance: Vector32::empty(client, channels),
        }
    }
}

/// The batch's statistics, and its moments, written to `into` where that is given. `spread` positions of the norm's map stand for each row:
/// one holds it, the others zero.
pub fn batch_statistics(
    client: &Queue,
    x: &Matrix,
    spread: usize,
    epsilon: f32,
    into: Option<&Moments>,
) -> (Statistics, Moments) {
    let d = Division::of(x);
    let (sums, squares) = (d.partial(client), d.partial(client));
    let moments = into
        .cloned()
        .unwrap_or_else(|| Moments::empty(client, d.channels));
    let inverse = Vector32::empty(client, d.channels);
    let elem = x.storage.elem();
    // SAFETY: the division matches the buffers, and every access is bounded by rows and columns.
    unsafe {
        moments::moments_partial::launch_unchecked(
            client,
            d.reducing(),
            d.units(),
            d.width,
            x.argument(),
            sums.argument(),
            squares.argument(),
            d.rows,
            d.columns,
            d.rows_per_cube,
            d.units_x,
            elem,
        );
        moments::moments_finish::launch_unchecked(
            client,
            d.finishing(),
            finishing_units(),
            x.argument(),
            sums.argument(),
            squares.argument(),
            moments.mean.argument(),
            moments.variance.argument(),
            inverse.argument(),
            d.rows as f32,
            spread as f32,
            d.channels,
            d.splits,
            epsilon,
            elem,
        );
    }
    let mean = moments.mean.clone();
    (Statistics { mean, inverse }, moments)
}

/// Running statistics, of the product with its bias, as those of the product without it.
pub fn given_statistics(
    client: &Queue,
    running: &Moments,
    bias: &Vector32,
    epsilon: f32,
) -> Statistics {
    let Moments { mean, variance } = running;
    let out = Statistics {
        mean: Vector32::empty(client, mean.len),
        inverse: Vector32::empty(client, mean.len),
    };
    // SAFETY: all have one value for each channel.
    unsafe {
        moments::given_statistics::launch_unchecked(
            client,
            cubes(mean.len),
            units(),
            mean.argument(),
            variance.argument(),
            bias.argument(),
            out.mean.argument(),
            out.inverse.argument(),
            mean.len,
            epsilon,
        );
    }
    out
}

/// `relu(norm(x))`, less the norm's value of zero where that is to be left out.
pub fn norm_relu(
    client: &Queue,
    x: &Matrix,
    statistics: &Statistics,
    affine: &Affine,
    is_constant_left_out: bool,
) -> Matrix {
    let y = Matrix::empty(client, x.rows, x.columns, x.storage);
    let d = Division::of(x);
    // SAFETY: as in `batch_statistics`.
    unsafe {
        tail::norm_relu::launch_unchecked(
            client,
            d.applying(),
            d.units(),
            d.width,
            x.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            y.argument(),
            d.rows,
            d.columns,
            u32::from(is_constant_left_out),
            d.units_x,
            x.storage.elem(),
        );
    }
    y
}

/// What the shortcut adds at the end of a block.
pub(super) enum Added<'a> {
    Nothing,
    Value(&'a Matrix),
    /// A map with every `stride`-th row and column of the output's, and its norm.
    Normalized {
        map: &'a Matrix,
        statistics: &'a Statistics,
        affine: &'a Affine,
        stride: usize,
    },
}

/// `relu(norm(x) + shortcut)` over images of `[height, width]` rows.
pub(super) fn block_tail(
    client: &Queue,
    x: &Matrix,
    statistics: &Statistics,
    affine: &Affine,
    added: Added<'_>,
    [height, width]: [usize; 2],
) -> Matrix {
    let y = Matrix::empty(client, x.rows, x.columns, x.storage);
    let d = Division::of(x);
    let (kind, other, other_statistics, other_affine, stride) = match added {
        Added::Nothing => (tail::ADD_NOTHING, x, statistics, affine, 1),
        Added::Value(value) => (tail::ADD_VALUE, value, statistics, affine, 1),
        Added::Normalized {
            map,
            statistics,
            affine,
            stride,
        } => (tail::ADD_NORMALIZED, map, statistics, affine, stride),
    };
    // SAFETY: as in `batch_statistics`; the shortcut's map is read at its own rows only.
    unsafe {
        tail::block_tail::launch_unchecked(
            client,
            d.applying(),
            d.units(),
            d.width,
            x.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            other.argument(),
            other_statistics.mean.argument(),
            other_statistics.inverse.argument(),
            other_affine.gamma.argument(),
            other_affine.beta.argument(),
            y.argument(),
            d.rows,
            d.columns,
            height,
            width,
            stride,
            kind,
            d.units_x,
            x.storage.elem(),
        );
    }
    y
}

/// What tells whether the ReLU let a value pass.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// There is none behind the norm.
    None,
    /// The block's output.
    Output(&'a Matrix),
    /// The norm's own output, computed again.
    Input,
}

impl Mask<'_> {
    /// The mask's number, and the buffer bound for the output: the norm's input where that is not read.
    fn bound<'a>(&'a self, x: &'a Matrix) -> (u32, &'a Matrix) {
        match self {
            Self::None => (gradient::MASK_NONE, x),
            Self::Output(y) => (gradient::MASK_OUTPUT, y),
            Self::Input => (gradient::MASK_INPUT, x),
        }
    }
}

/// The gradients of gamma and beta, from the rows' gradients; written to `into` where that is given.
pub fn gradient_sums(
    client: &Queue,
    x: &Matrix,
    mask: Mask<'_>,
    gradient: &Matrix,
    statistics: &Statistics,
    affine: &Affine,
    into: Option<&Affine>,
) -> Affine {
    let d = Division::of(x);
    let (sums, products) = (d.partial(client), d.partial(client));
    let out = into.cloned().unwrap_or_else(|| Affine {
        gamma: Vector32::empty(client, d.channels),
        beta: Vector32::empty(client, d.channels),
    });
    let (kind, y) = mask.bound(x);
    // SAFETY: as in `batch_statistics`.
    unsafe {
        gradient::gradient_partial::launch_unchecked(
            client,
            d.reducing(),
            d.units(),
            d.width,
            x.argument(),
            y.argument(),
            gradient.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            sums.argument(),
            products.argument(),
            d.rows,
            d.columns,
            d.rows_per_cube,
            kind,
            d.units_x,
            x.storage.elem(),
        );
        gradient::gradient_finish::launch_unchecked(
            client,
            d.finishing(),
            finishing_units(),
            sums.argument(),
            products.argument(),
            out.beta.argument(),
            out.gamma.argument(),
            d.channels,
            d.splits,
        );
    }
    out
}

/// A matrix for the gradient of another: of the same form, or that one itself, where nothing reads it any more.
pub(super) fn successor(client: &Queue, x: &Matrix, is_in_place: bool) -> Matrix {
    match is_in_place {
        true => x.clone(),
        false => Matrix::empty(client, x.rows, x.columns, x.storage),
    }
}

/// The gradient of the norm's input, with `sums` the gradients of its parameters; what passes the ReLU goes to `shortcut` too. It is written over
/// the norm's input where `is_in_place`, which nothing may read any more.
#[allow(clippy::too_many_arguments)] // All of a norm's backward pass.
pub fn gradient_apply(
    client: &Queue,
    x: &Matrix,
    mask: Mask<'_>,
    gradient: &Matrix,
    statistics: &Statistics,
    affine: &Affine,
    sums: &Affine,
    spread: usize,
    shortcut: Option<&Matrix>,
    is_in_place: bool,
) -> Matrix {
    let dx = successor(client, x, is_in_place);
    let d = Division::of(x);
    let (kind, y) = mask.bound(x);
    let reciprocal = 1.0 / (d.rows * spread) as f32;
    // SAFETY: as in `batch_statistics`. Without a shortcut its output is not written, so `dx` may stand for it. In place, the unit that writes a
    // value is the only one that reads it, and has read it before.
    unsafe {
        gradient::gradient_apply::launch_unchecked(
            client,
            d.applying(),
            d.units(),
            d.width,
            x.argument(),
            y.argument(),
            gradient.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            sums.beta.argument(),
            sums.gamma.argument(),
            dx.argument(),
            shortcut.unwrap_or(&dx).argument(),
            reciprocal,
            d.rows,
            d.columns,
            kind,
            shortcut.is_some(),
            d.units_x,
            x.storage.elem(),
        );
    }
    dx
}
