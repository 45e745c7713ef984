//! What the programs and the tests of the kernels share.

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
