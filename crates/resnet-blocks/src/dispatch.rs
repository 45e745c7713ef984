//! Which form of a block runs: the plain layers, one operation for the whole block, or an upsampling block without its zeros.
//!
//! The plain form in each block's `forward_plain` defines the result on every backend. The one operation needs ReLU, norms that are all in the
//! mode that the input's device calls for, and a tensor that is at run time on a backend with kernels for it:
//!
//! - flex (feature `flex`): float32 or float64, products in that type;
//! - GPUs (features `cuda` and `vulkan`): parameters in float32, maps in float32, or in bfloat16 where the block's precision says so.
//!
//! Elsewhere a transposed bottleneck leaves out its zeros (`upsampling.rs`), and everything else takes the plain form.

#[cfg(any(feature = "flex", feature = "cube"))]
mod one_operation;

use std::cell::Cell;

use burn::nn::Linear;
use burn::prelude::*;

use crate::layers::{BottleneckLayers, ConvolutionLayer};
use crate::precision::Precision;
use crate::shared_batch::SharedBatch;
use crate::upsampling;

thread_local! {
    static ONLY_PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the plain form of every block on this thread: the reference that fast forms are compared with.
#[doc(hidden)]
pub fn with_plain_blocks<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ONLY_PLAIN.set(self.0);
        }
    }
    let _restore = Restore(ONLY_PLAIN.replace(true));
    work()
}

/// Whether this thread is within [`with_plain_blocks`].
#[doc(hidden)]
pub fn are_blocks_plain() -> bool {
    ONLY_PLAIN.get()
}

/// The block's output by its fast form; none where the plain form is called for.
pub(crate) fn fast_bottleneck(
    block: &BottleneckLayers<'_>,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
    if ONLY_PLAIN.get() {
        return None;
    }
    #[cfg(any(feature = "flex", feature = "cube"))]
    if let Some(output) = one_operation::bottleneck(block, input, None) {
        return Some(output);
    }
    // A shard whose statistics are the whole batch's takes the plain form, whose norms know of them.
    let is_part = SharedBatch::present().is_some();
    let has_zeros = !is_part && upsampling::has_zeros(block);
    has_zeros.then(|| upsampling::forward(block, input.clone()))
}

/// The output of a 1x1 convolution behind a block, without the block's own output; none where both are to be computed one after the other.
pub(crate) fn fast_bottleneck_and_next(
    block: &BottleneckLayers<'_>,
    next: &ConvolutionLayer<'_>,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
    #[cfg(feature = "flex")]
    if !ONLY_PLAIN.get() {
        return one_operation::bottleneck(block, input, Some(next));
    }
    let _ = (block, next, input);
    None
}

/// A dense layer's output by its fast form; none where the plain form is called for.
pub(crate) fn fast_linear<const D: usize>(
    layer: &Linear,
    input: &Tensor<D>,
    precision: Precision,
) -> Option<Tensor<D>> {
    if ONLY_PLAIN.get() {
        return None;
    }
    #[cfg(feature = "cube")]
    return one_operation::linear(layer, input, precision);
    #[cfg(not(feature = "cube"))]
    {
        let _ = (layer, input, precision);
        None
    }
}

/// The layer's output by its fast form; none where the plain form is called for.
pub(crate) fn fast_convolution(
    layer: &ConvolutionLayer<'_>,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
    if ONLY_PLAIN.get() {
        return None;
    }
    #[cfg(any(feature = "flex", feature = "cube"))]
    return one_operation::convolution(layer, input);
    #[cfg(not(any(feature = "flex", feature = "cube")))]
    {
        let _ = (layer, input);
        None
    }
}

/// What a block's parameters do not tell of its one operation; none where there is none for its form.
#[cfg(feature = "cube")]
pub(crate) fn block_config(block: &BottleneckLayers<'_>) -> Option<crate::operation::BlockConfig> {
    one_operation::config(block)
}
