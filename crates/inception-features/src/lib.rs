#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blocks;
mod convolution;
mod joining;
mod network;
mod pickle;
mod torch_file;
mod weights;

pub use network::{FEATURES, Inception, LARGEST_MAP, PROTOCOL, tensor_shapes};
pub use weights::{PUBLISHED_WEIGHTS, Weights, WeightsError};
