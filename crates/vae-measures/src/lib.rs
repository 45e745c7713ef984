#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod frechet;
mod gaussian_mixture;
mod image_statistics;
mod importance;
mod kl_schedule;
mod latents;
mod likelihood;
mod linear_gaussian;
mod objective;
mod weight_average;

pub use frechet::{FeatureMoments, frechet_distance};
pub use gaussian_mixture::{GaussianMixture, MixtureError, MixtureFit};
pub use image_statistics::{ColourHistogram, RadialSpectrum, nearest_distance};
pub use importance::{LogMeanExp, Mean};
pub use kl_schedule::{KlSchedule, KlScheduleError};
pub use latents::{ACTIVE_VARIANCE, LatentInformation, LatentMoments};
pub use likelihood::{Likelihood, LikelihoodError, Scale};
pub use linear_gaussian::{LinearGaussian, LinearGaussianError};
pub use objective::{bits_per_dim, free_bits, free_bits_gradient};
pub use weight_average::average_decay;
