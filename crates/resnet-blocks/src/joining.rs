//! Tensors one behind the other.

use burn::prelude::*;

/// The parts one behind the other along a dimension, as Burn's own operation gives them.
///
/// CubeCL leaves out work that needs what was never computed, for want of memory or because a buffer was too large, and tells so where a result is
/// read. Burn joins by writing one part after the other into new memory; a part that was left out is forgotten there as soon as the next one is
/// written, and whatever the memory had is read in its place. So the parts are asked beforehand on a GPU.
///
/// # Shapes
/// - parts: alike but for their size in `dim`
///
/// # Panics
/// If a part was not computed on a GPU, with what the device reported; if there is no part, or their shapes do not fit.
pub fn join<const D: usize>(parts: Vec<Tensor<D>>, dim: usize) -> Tensor<D> {
    #[cfg(feature = "cube")]
    if let Some(error) = crate::exposed::failure_of(&parts) {
        panic!("a tensor was not computed: {error}");
    }
    #[expect(clippy::disallowed_methods, reason = "the parts have been asked")]
    Tensor::cat(parts, dim)
}
