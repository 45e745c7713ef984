#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod block_shape;
mod config;
mod cost;
mod decoder;
mod depth;
mod diagonal_gaussian;
mod dropout;
mod encoder;
mod likelihood;
mod penalty;
mod vae;

pub use block_shape::BlockShape;
pub use config::{ConfigError, VaeConfig};
pub use cost::Cost;
pub use decoder::Decoder;
pub use depth::Depth;
pub use diagonal_gaussian::{DiagonalGaussian, Sampler};
pub use dropout::DropoutMasks;
pub use encoder::Encoder;
pub use likelihood::bernoulli_cross_entropy;
pub use penalty::l2_penalty;
pub use resnet_blocks::{Activation, NormConfig, Precision, Shortcuts};
pub use vae::{LossTerms, Vae, VaeOutput};
