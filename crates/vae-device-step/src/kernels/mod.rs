//! The kernels around the blocks: draws, loss, and what ends a step. Each has one form, so that there are few to compile.

// The macro's launch functions take every argument of a kernel.
#![allow(clippy::too_many_arguments)]

mod bernoulli;
pub(crate) mod dense;
mod gaussian;
pub(crate) mod images;
pub(crate) mod latent;
mod log_probability;
mod logistic;
pub(crate) mod mixture;
mod normal;
pub(crate) mod optimizer;
pub(crate) mod running;
pub(crate) mod shards;
pub(crate) mod values;

use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: usize = 256;

/// The sum of a value of each of a cube's [`UNITS`] units, in a fixed order; every unit gets it.
#[cube]
pub(crate) fn cube_sum(value: f32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut half = 128usize;
    while half > 0 {
        if (UNIT_POS as usize) < half {
            let other = shared[UNIT_POS as usize + half];
            shared[UNIT_POS as usize] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    // Nobody may write its next value before all have read this one.
    sync_cube();
    sum
}
