//! The kernels, over channels-last rows: one row is one pixel, and its channels lie side by side.
//!
//! They name no runtime: a Vulkan client makes SPIR-V or WGSL of them, a CUDA client compiles them with NVRTC. `F` is the type in memory
//! (`f32` or `bf16`), chosen at launch through `#[define(F)]`; every sum is float32. `N` is the width of a vector, a launch argument
//! too; a slice of `Vector<F, N>` is indexed in whole vectors, and `columns` counts vectors.

// The macro's launch functions take every argument of a kernel.
// Kernels have the remainder, not the method.
#![allow(clippy::manual_is_multiple_of)]
#![allow(clippy::too_many_arguments)]

pub(super) mod elementwise;
pub(super) mod gradient;
pub(super) mod moments;
pub(super) mod pixels;
pub(super) mod product;
pub(super) mod spread;
pub(super) mod tail;
pub(super) mod weights;

/// Rows that one unit has in flight.
pub(super) const ROWS: usize = 4;

/// Units of a cube in kernels of one dimension.
pub(super) const UNITS: u32 = 256;

/// The same, as kernels count.
pub(super) const UNITS_OF_CUBE: usize = UNITS as usize;
