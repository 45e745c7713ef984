//! Changing the type in memory, sums, and biases where no norm follows.

use cubecl::prelude::*;

/// `out = x` in another type.
#[cube(launch_unchecked)]
pub(in crate::cube) fn convert<F: Float, O: Float>(
    x: &[F],
    out: &mut [O],
    count: usize,
    #[define(F, O)] _elems: [ElemType; 2],
) {
    if ABSOLUTE_POS < count {
        out[ABSOLUTE_POS] = O::cast_from(x[ABSOLUTE_POS]);
    }
}

/// `out += x`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn add<F: Float>(
    x: &[F],
    out: &mut [F],
    count: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS < count {
        let sum = f32::cast_from(out[ABSOLUTE_POS]) + f32::cast_from(x[ABSOLUTE_POS]);
        out[ABSOLUTE_POS] = F::cast_from(sum);
    }
}

/// `x += bias` on every row.
#[cube(launch_unchecked)]
pub(in crate::cube) fn add_bias<F: Float>(
    x: &mut [F],
    bias: &[f32],
    count: usize,
    channels: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS < count {
        let value = f32::cast_from(x[ABSOLUTE_POS]) + bias[ABSOLUTE_POS % channels];
        x[ABSOLUTE_POS] = F::cast_from(value);
    }
}
