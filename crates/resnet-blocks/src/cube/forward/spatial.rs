//! The 3x3 convolution of a bottleneck.

use crate::cube::matrix::{Matrix, Vector32};
use crate::cube::pixels::{Grid, interleaved_sum, patches};
use crate::cube::spatial_weights::pack_spatial;
use crate::operation::Sizes;

use super::device::Device;
use super::layers::SpatialLayer;

/// The 3x3 convolution of a map with a value at every position.
pub(super) fn filter(device: &Device, sizes: &Sizes, x: &Matrix, layer: &SpatialLayer) -> Matrix {
    let client = &device.client;
    let packed = pack_spatial(client, &layer.weight, [sizes.width; 2], false, x.storage);
    let gathered = patches(client, &sizes.up_grid(), x);
    let out = Matrix::empty(client, x.rows, sizes.width, x.storage);
    device
        .products
        .multiply(client, gathered.plain(), packed.plain(), &out, false);
    out
}

/// The 3x3 convolution of a map that has `x` plus a constant on every `up`-th row and column and the constant elsewhere; the constant alone gives
/// `kinds`.
pub(super) fn filter_interleaved(
    device: &Device,
    sizes: &Sizes,
    x: &Matrix,
    packed: &Matrix,
    kinds: &Vector32,
) -> Matrix {
    let client = &device.client;
    let taps = Matrix::empty(client, x.rows, packed.rows, x.storage);
    device
        .products
        .multiply(client, x.plain(), packed.transposed(), &taps, false);
    interleaved_sum(client, &sizes.up_grid(), &taps, kinds)
}

impl Sizes {
    /// The input's grid and what the stride samples of it.
    pub(in crate::cube) fn down_grid(&self) -> Grid {
        Grid {
            images: self.batch,
            size: self.input,
            low: self.low,
            stride: self.down,
        }
    }

    /// The output's grid and the rows that have a value of their own before the 3x3 convolution.
    pub(in crate::cube) fn up_grid(&self) -> Grid {
        Grid {
            images: self.batch,
            size: self.output,
            low: self.low,
            stride: self.up,
        }
    }
}
