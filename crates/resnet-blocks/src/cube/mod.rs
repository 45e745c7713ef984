//! Fast forms of the blocks on CubeCL's backends: CUDA, and Vulkan, Metal or WebGPU through wgpu. The plain forms define what they compute.
//!
//! A handful of kernels of our own and matrix products, so that nothing is tuned: the first step runs as soon as they are compiled. Maps have
//! channels last, in float32 or bfloat16; every sum is float32, in an order that does not change from run to run.
//!
//! Public for crates that make a whole training step of these; not covered by this crate's version number.

mod backward;
mod between_values;
mod block;
#[cfg(feature = "cuda")]
mod c_library;
#[cfg(feature = "cuda")]
mod device_thread;
mod exposure;
mod forward;
mod kernels;
mod matrix;
mod norm;
mod operation;
mod pixels;
mod pointwise;
mod product;
mod queue;
mod spatial_weights;
mod tensors;
#[cfg(feature = "cuda")]
mod toolchain;

pub use backward::GradientSlots;
pub use block::{Block, KeptBlock, LayerParameters};
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub use c_library::not_opened;
#[cfg(feature = "cuda")]
pub use device_thread::{DeviceThread, FirstFailure, OnStream};
pub use exposure::{
    device_of, images_of, largest_buffer, largest_workspace_buffer, pixels, products_of,
    unplanned_products_of, values,
};
pub use forward::Device;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub use libloading;
pub use matrix::{Matrix, Storage, Vector32, cubes, units};
pub use norm::{
    Affine, Mask, Moments, Statistics, batch_statistics, given_statistics, gradient_apply,
    gradient_sums, norm_relu,
};
pub use pixels::column_sums;
pub use product::{CubeClProducts, Operand, Plain, Products};
pub use queue::{Buffer, Queue, Workspace};
#[cfg(feature = "cuda")]
pub use toolchain::toolchain;
