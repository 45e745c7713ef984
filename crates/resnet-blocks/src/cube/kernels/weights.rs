//! The weights of 3x3 convolutions as the products want them, and their gradients back.

use cubecl::prelude::*;

/// A 3x3 convolution's weights `[channels_out, channels_in, 3, 3]`, float32, as a matrix.
///
/// Gathering: `[9 * channels_in, channels_out]`, to multiply neighbourhoods of the input with. Scattering: `[9 * channels_out, channels_in]`
/// with the taps in the opposite order, tap `t` being what an input value adds to the output `t - 1` rows and columns further on.
#[cube(launch_unchecked)]
pub(in crate::cube) fn pack_spatial<F: Float>(
    weight: &[f32],
    packed: &mut [F],
    channels_in: usize,
    channels_out: usize,
    is_scattering: u32,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= 9 * channels_in * channels_out {
        terminate!();
    }
    if is_scattering == 1u32 {
        let from = ABSOLUTE_POS % channels_in;
        let row = ABSOLUTE_POS / channels_in;
        let to = row % channels_out;
        let tap = row / channels_out;
        packed[ABSOLUTE_POS] = F::cast_from(weight[(to * channels_in + from) * 9 + 8 - tap]);
    } else {
        let to = ABSOLUTE_POS % channels_out;
        let row = ABSOLUTE_POS / channels_out;
        let from = row % channels_in;
        let tap = row / channels_in;
        packed[ABSOLUTE_POS] = F::cast_from(weight[(to * channels_in + from) * 9 + tap]);
    }
}

/// The gradient of the scattering form, back in the weights' own layout. Where the convolution's input is a constant between the values
/// (`constant`, `[channels_in]`), each tap's share of it is `tap_sums`, `[9 * channels_out]`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn unpack_spatial_gradient(
    packed: &[f32],
    tap_sums: &[f32],
    constant: &[f32],
    gradient: &mut [f32],
    channels_in: usize,
    channels_out: usize,
    has_constant: u32,
) {
    if ABSOLUTE_POS >= 9 * channels_in * channels_out {
        terminate!();
    }
    let tap = 8 - ABSOLUTE_POS % 9;
    let from = (ABSOLUTE_POS / 9) % channels_in;
    let to = ABSOLUTE_POS / (9 * channels_in);
    let row = tap * channels_out + to;
    let mut value = packed[row * channels_in + from];
    if has_constant == 1u32 {
        value += tap_sums[row] * constant[from];
    }
    gradient[ABSOLUTE_POS] = value;
}
