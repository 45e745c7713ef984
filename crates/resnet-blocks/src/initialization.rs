//! Glorot-uniform initialisation, independent of Burn's per-layer defaults.
//!
//! Burn's layers draw their biases with the weight's initialiser, and its transposed convolution cannot
//! use Glorot's at all (it passes no fan-out). Here the limit depends on the weight's shape alone.

use burn::module::Param;
use burn::nn::Initializer;
use burn::prelude::*;

/// The limit `a` of Glorot and Bengio's uniform distribution `U(-a, a)` (AISTATS 2010, equation 16).
///
/// ```text
/// a = sqrt(6 / (fan_in + fan_out))
/// ```
///
/// `dims` is the weight's shape: two channel axes, in either order, then the kernel's axes. The order does
/// not matter, because fan-in and fan-out enter as a sum: the limit of a convolution is that of its transpose.
///
/// # Panics
/// If there are fewer than two axes.
pub fn glorot_limit(dims: &[usize]) -> f64 {
    let [first, second, kernel @ ..] = dims else {
        panic!("a weight has at least two axes, not {dims:?}");
    };
    let taps: usize = kernel.iter().product();
    (6.0 / ((first + second) * taps) as f64).sqrt()
}

/// A parameter drawn from Glorot's uniform distribution by the device's generator, on first use.
///
/// A program that must repeat a run bit for bit overwrites it from its own generator; see [`glorot_limit`].
pub fn glorot_uniform<const D: usize>(dims: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let limit = glorot_limit(&dims);
    Initializer::Uniform {
        min: -limit,
        max: limit,
    }
    .init(dims, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_that_of_glorot_and_bengio() {
        // keras: fan_in = 3 * 3 * 64, fan_out = 3 * 3 * 128
        assert!((glorot_limit(&[128, 64, 3, 3]) - (6.0f64 / 1728.0).sqrt()).abs() < 1e-15);
        assert_eq!(
            glorot_limit(&[64, 128, 3, 3]),
            glorot_limit(&[128, 64, 3, 3])
        );
        assert!((glorot_limit(&[2048, 1024]) - (6.0f64 / 3072.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn draws_fill_the_interval_and_have_its_variance() {
        let weight = glorot_uniform([200, 100, 1, 1], &Device::flex()).val();
        let limit = (6.0f32 / 300.0).sqrt();
        let values = weight
            .into_data()
            .try_to_vec::<f32>()
            .expect("float32 values");
        let largest = values
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!(
            largest <= limit && largest > 0.999 * limit,
            "{largest} against {limit}"
        );
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(
            (variance / (limit * limit / 3.0) - 1.0).abs() < 0.03,
            "{variance}"
        );
    }
}
