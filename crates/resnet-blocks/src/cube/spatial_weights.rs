//! The weights of a 3x3 convolution as products want them, and their gradient: the launches.

use super::kernels::weights;
use super::matrix::{Matrix, Storage, Vector32, cubes, units};
use super::pixels::vector_or;
use super::queue::Queue;

/// A 3x3 convolution's weights for products: gathering `[9 * in, out]`, or scattering `[9 * out, in]`.
pub(super) fn pack_spatial(
    client: &Queue,
    weight: &Vector32,
    channels: [usize; 2],
    is_scattering: bool,
    storage: Storage,
) -> Matrix {
    let [channels_in, channels_out] = channels;
    let packed = match is_scattering {
        true => Matrix::empty(client, 9 * channels_out, channels_in, storage),
        false => Matrix::empty(client, 9 * channels_in, channels_out, storage),
    };
    // SAFETY: one unit a weight.
    unsafe {
        weights::pack_spatial::launch_unchecked(
            client,
            cubes(packed.len()),
            units(),
            weight.argument(),
            packed.argument(),
            channels_in,
            channels_out,
            u32::from(is_scattering),
            storage.elem(),
        );
    }
    packed
}

/// The gradient of the scattering form as that of the weights, with the constant's share where there is a constant.
pub(super) fn unpack_spatial_gradient(
    client: &Queue,
    packed: &Matrix,
    constant: Option<(&Vector32, &Vector32)>,
    into: Option<&Vector32>,
) -> Vector32 {
    let (channels_in, channels_out) = (packed.columns, packed.rows / 9);
    let gradient = vector_or(client, into, packed.len());
    let (tap_sums, values) = match constant {
        Some((tap_sums, values)) => (tap_sums.argument(), values.argument()),
        None => (packed.argument(), packed.argument()),
    };
    // SAFETY: one unit a weight. Without a constant its two buffers are not read.
    unsafe {
        weights::unpack_spatial_gradient::launch_unchecked(
            client,
            cubes(packed.len()),
            units(),
            packed.argument(),
            tap_sums,
            values,
            gradient.argument(),
            channels_in,
            channels_out,
            u32::from(constant.is_some()),
        );
    }
    gradient
}
