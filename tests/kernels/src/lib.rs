//! What the programs and the tests of the kernels share.

#[cfg(feature = "vulkan")]
mod vulkan;

#[cfg(feature = "vulkan")]
pub use vulkan::vulkan;

/// The usual likelihoods that have kernels.
pub const WITH_KERNELS: [&str; 7] = [
    "bernoulli",
    "renormalised-bernoulli",
    "logistic",
    "logistic:global",
    "logistic-mixture:10",
    "gaussian",
    "gaussian:global",
];
