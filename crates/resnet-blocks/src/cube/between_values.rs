//! The positions between the values of an enlarged map, which all hold the constant that the norm makes of zero: the launches.

use cubecl::prelude::*;

use super::kernels::spread;
use super::kernels::spread::DOT_UNITS;
use super::matrix::{Division, Matrix, Vector32, cubes, units};
use super::norm::{Affine, Statistics};
use super::pixels::Grid;
use super::queue::Queue;

/// The norm's output between the values, `[channels]`, and what it gives at the nine kinds of position, `[9 * channels_out]`, from the scattering
/// weights.
pub(super) fn constant_kinds(
    client: &Queue,
    packed: &Matrix,
    statistics: &Statistics,
    affine: &Affine,
) -> (Vector32, Vector32) {
    let constant = Vector32::empty(client, packed.columns);
    let kinds = Vector32::empty(client, packed.rows);
    let channels_out = packed.rows / 9;
    // SAFETY: one cube a channel of the weights; statistics and parameters have one value for each of the norm's channels.
    unsafe {
        spread::constant_kinds::launch_unchecked(
            client,
            CubeCount::Static(channels_out as u32, 1, 1),
            CubeDim::new_1d(DOT_UNITS as u32),
            packed.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            constant.argument(),
            kinds.argument(),
            packed.columns,
            channels_out,
            packed.storage.elem(),
        );
    }
    (constant, kinds)
}

/// For each tap, the gradient's sum over the positions whose source lies inside the image: `[9 * channels]`.
pub(super) fn tap_sums(client: &Queue, grid: &Grid, gradient: &Matrix) -> Vector32 {
    let d = Division::of(gradient);
    let partial = Vector32::empty(client, 9 * d.splits * d.channels);
    let sums = Vector32::empty(client, 9 * d.channels);
    // SAFETY: the division matches the buffers.
    unsafe {
        spread::tap_sums_partial::launch_unchecked(
            client,
            d.reducing(),
            d.units(),
            d.width,
            gradient.argument(),
            partial.argument(),
            d.rows,
            d.columns,
            d.rows_per_cube,
            grid.size[0],
            grid.size[1],
            d.units_x,
            gradient.storage.elem(),
        );
        spread::tap_sums_finish::launch_unchecked(
            client,
            cubes(d.channels),
            units(),
            partial.argument(),
            sums.argument(),
            d.channels,
            d.splits,
        );
    }
    sums
}

/// Where the gradients at the positions between the values come from.
pub(super) enum Elsewhere<'a> {
    /// Their sum.
    Sum(&'a Vector32),
    /// The sum at all positions.
    All(&'a Vector32),
}

/// Adds the positions between the values to a norm's parameter gradients, in place.
pub(super) fn add_elsewhere(
    client: &Queue,
    elsewhere: Elsewhere<'_>,
    statistics: &Statistics,
    affine: &Affine,
    sums: &Affine,
    is_relu: bool,
) {
    let (values, is_of_all) = match elsewhere {
        Elsewhere::Sum(values) => (values, false),
        Elsewhere::All(values) => (values, true),
    };
    let channels = values.len;
    // SAFETY: all have one value for each channel.
    unsafe {
        spread::add_elsewhere::launch_unchecked(
            client,
            cubes(channels),
            units(),
            values.argument(),
            statistics.mean.argument(),
            statistics.inverse.argument(),
            affine.gamma.argument(),
            affine.beta.argument(),
            sums.beta.argument(),
            sums.gamma.argument(),
            channels,
            u32::from(is_of_all),
            u32::from(is_relu),
        );
    }
}
