#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
// Handles of memory, kernels and peers on a device tell nothing.
#![allow(missing_debug_implementations)]

// Launching a kernel is unsafe; each launch says why it is in bounds.
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod factors;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod flat;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod kernels;
#[cfg(feature = "cube")]
mod layout;
mod memory;
// NCCL's functions are C's; each call says why it is sound.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
pub mod nccl;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod network;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod outcome;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod resident;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod step;
mod traffic;
#[cfg(feature = "cube")]
#[allow(unsafe_code)]
mod vector;

#[cfg(feature = "cube")]
pub use factors::AdamOptions;
pub use memory::{StepBytes, StepForm, step_bytes};
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use network::{ImageLikelihood, image_likelihood};
#[cfg(feature = "cube")]
pub use outcome::{BatchTerms, Outcome, Pending, PendingImageTerms, PendingTerms, StepError};
#[cfg(feature = "cube")]
pub use resident::{Pick, ResidentImages, StepImages};
#[cfg(feature = "cube")]
pub use step::{DeviceStep, Posteriors, ShardPass, StepInputs, StepOptions, StepRates, Weights};
pub use traffic::bytes_moved;
#[cfg(feature = "cube")]
pub use vector::DeviceVector;
