#![doc = include_str!("../README.md")]
// The mixture's kernel calls its own copy for AVX2; it comes with flex.
#![deny(unsafe_code)]
#![cfg_attr(not(feature = "flex"), forbid(unsafe_code))]

mod autoencoder;
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

pub use autoencoder::{Autoencoder, LossTerms, Segment, Segments, VaeOutput};
pub use block_shape::BlockShape;
pub use config::{ConfigError, VaeConfig};
pub use cost::Cost;
pub use decoder::Decoder;
pub use depth::Depth;
pub use diagonal_gaussian::{DiagonalGaussian, Sampler};
pub use dropout::DropoutMasks;
pub use encoder::Encoder;
pub use likelihood::{PixelLikelihood, PixelNoise, bernoulli_cross_entropy};
pub use penalty::l2_penalty;
pub use resnet_blocks::{Activation, Convolution, NormConfig, Precision, Shortcuts, Stage};
pub use vae::{Vae, penalty_weight};
pub use vae_measures::{Likelihood, LikelihoodError, Scale};
