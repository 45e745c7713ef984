#![doc = include_str!("../README.md")]
// Three places allow it, each with its reasons: two measured kernels for processors (`flex`), and the kernels of GPUs (`cube`).
#![deny(unsafe_code)]
#![cfg_attr(not(any(feature = "flex", feature = "cube")), forbid(unsafe_code))]

mod activation;
mod blocks;
mod convolution;
// Launching a kernel is unsafe; each launch says why it is in bounds.
// Its types are handles of memory on a device, which tell nothing.
#[cfg(feature = "cube")]
#[allow(unsafe_code, missing_debug_implementations)]
#[doc(hidden)]
pub mod cube;
mod dense;
mod dispatch;
#[cfg(feature = "cube")]
mod exposed;
#[cfg(feature = "flex")]
mod flex;
mod initialization;
mod joining;
mod layers;
mod norm;
#[cfg(any(feature = "flex", feature = "cube"))]
mod operation;
mod parameters;
mod precision;
mod sampling;
mod shared_batch;
mod summation;
mod upsampling;

pub use activation::Activation;
pub use blocks::basic_block::{BasicBlock, BasicBlockConfig};
pub use blocks::bottleneck::{Bottleneck, BottleneckConfig};
pub use blocks::shortcut::{Projection, Shortcut, Shortcuts};
pub use blocks::stage::{Block, BlockKind, Stage, StageConfig};
pub use convolution::{Convolution, ConvolutionConfig};
pub use dispatch::{are_blocks_plain, with_plain_blocks};
pub use initialization::{glorot_limit, glorot_uniform};
pub use joining::join;
pub use norm::{NormConfig, norm_activate, norm_add_activate, normalize, variance_factor};
pub use parameters::{
    NamedParameter, ParameterName, map_named_parameters, named_parameters, parameter_names,
};
pub use precision::Precision;
pub use sampling::Sampling;
pub use shared_batch::SharedBatch;
pub use summation::{mean_in_fixed_order, sum_in_fixed_order};
