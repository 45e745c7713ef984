//! log(sinh(y) / y) near 0, which every form of the renormalised Bernoulli shares; without Burn, as the kernels are.

/// Below it, log(sinh(y) / y) is a series; above, a sum of logarithms.
pub(super) const SERIES_BELOW: f64 = 0.5;

/// Coefficients of y^2, y^4, .. in log(sinh(y) / y): 2^(2n - 1) B_2n / (n (2n)!). The first that is left out is below 1e-14 of
/// the sum where the series is used.
pub(super) const SERIES: [f64; 9] = [
    1.0 / 6.0,
    -1.0 / 180.0,
    1.0 / 2_835.0,
    -1.0 / 37_800.0,
    1.0 / 467_775.0,
    -691.0 / 3_831_077_250.0,
    2.0 / 127_702_575.0,
    -3_617.0 / 2_605_132_530_000.0,
    43_867.0 / 350_813_659_321_125.0,
];
