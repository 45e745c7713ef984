//! Fast forms of the blocks on CubeCL's backends: CUDA, and Vulkan, Metal or WebGPU through wgpu. The plain forms define what they compute.
//!
//! A handful of kernels of our own and matrix products, so that nothing is tuned: the first step runs as soon as they are compiled. Maps have
//! channels last, in float32 or bfloat16; every sum is float32, in an order that does not change from run to run.

mod backward;
mod forward;
mod kernels;
mod matrix;
mod norm;
mod operation;
mod pixels;
mod pointwise;
mod product;
mod tensors;
