//! The element types of the one-pass likelihoods, with the few functions they need.
//!
//! For float32 they are polynomials without branches or calls, which compilers turn into wide instructions; no operation
//! is fused or reordered, so every processor gives the same bits. For float64 they are the standard library's.

use std::ops::{Add, Div, Mul, Neg, Sub};

use burn::tensor::Element;

/// `f32` or `f64`.
pub(super) trait Real:
    Element
    + bytemuck::Pod
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + PartialOrd
    + Send
    + Sync
{
    const ZERO: Self;
    const ONE: Self;
    /// A number x so large that exp(-x) is the smallest normal one.
    const FAR: Self;
    fn from_f64(value: f64) -> Self;
    fn wide(self) -> f64;
    fn abs(self) -> Self;
    fn round(self) -> Self;
    /// Of an argument between -[`FAR`](Self::FAR) and [`FAR`](Self::FAR).
    fn exp(self) -> Self;
    /// exp(x) - 1, exact near 0 too, of an argument between -[`FAR`](Self::FAR) and 0.
    fn exp_minus_one(self) -> Self;
    /// Of a positive normal number.
    fn ln(self) -> Self;
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const FAR: Self = 708.0;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
    fn abs(self) -> Self {
        self.abs()
    }
    fn round(self) -> Self {
        self.round_ties_even()
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn exp_minus_one(self) -> Self {
        self.exp_m1()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

/// Adding and subtracting it rounds to a whole number; the sum's lowest bits are that number.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
/// ln 2 in two parts, the first with few enough bits that its multiples are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `x = n ln 2 + rest`: the rest, and 2^n.
#[inline(always)]
fn reduce(x: f32) -> (f32, f32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    ((x - n * LN_2_HIGH) - n * LN_2_LOW, power)
}

/// exp(x) - 1 - x for |x| below half ln 2: the series x^2 / 2 + .. + x^7 / 5040.
#[inline(always)]
fn exp_tail(x: f32) -> f32 {
    let series = 1.0 / 5040.0;
    let series = series * x + 1.0 / 720.0;
    let series = series * x + 1.0 / 120.0;
    let series = series * x + 1.0 / 24.0;
    let series = series * x + 1.0 / 6.0;
    let series = series * x + 0.5;
    series * x * x
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const FAR: Self = 87.0;
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn round(self) -> Self {
        (self + ROUND) - ROUND
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let (rest, power) = reduce(self);
        (exp_tail(rest) + rest + 1.0) * power
    }
    #[inline(always)]
    fn exp_minus_one(self) -> Self {
        let (rest, power) = reduce(self);
        (exp_tail(rest) + rest) * power + (power - 1.0)
    }
    #[inline(always)]
    #[allow(clippy::eq_op)] // `self - self` is zero, or a NaN that must not be hidden.
    fn ln(self) -> Self {
        // x = 2^n m with m between sqrt(1/2) and sqrt(2); with s = (m - 1) / (m + 1), ln m = 2 s + 2 s^3 / 3 + ..
        let shifted = self
            .to_bits()
            .wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
        let exponent = (shifted as i32) >> 23;
        let mantissa = f32::from_bits(self.to_bits().wrapping_sub((exponent << 23) as u32));
        let n = exponent as f32;
        let s = (mantissa - 1.0) / (mantissa + 1.0);
        let square = s * s;
        let series = 2.0 / 9.0;
        let series = series * square + 2.0 / 7.0;
        let series = series * square + 2.0 / 5.0;
        let series = series * square + 2.0 / 3.0;
        let series = series * square * s + 2.0 * s;
        // The last term is 0, or NaN where x is.
        (n * LN_2_LOW + series) + n * LN_2_HIGH + (self - self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest difference to float64, in units of the result's last place or of `floor`'s, whichever is larger.
    fn worst(
        points: impl Iterator<Item = f32>,
        of: fn(f32) -> f32,
        truth: fn(f64) -> f64,
        floor: f64,
    ) -> f64 {
        points
            .map(|x| {
                let expected = truth(x as f64);
                let unit = f32::EPSILON as f64 * expected.abs().max(floor);
                (of(x) as f64 - expected).abs() / unit
            })
            .fold(0.0, f64::max)
    }

    fn between(from: f32, to: f32) -> impl Iterator<Item = f32> {
        let count = 200_000;
        (0..=count).map(move |index| from + (to - from) * (index as f32 / count as f32))
    }

    #[test]
    fn the_functions_are_within_three_units_of_float64() {
        assert!(worst(between(-87.0, 87.0), Real::exp, f64::exp, 0.0) < 3.0);
        assert!(worst(between(-9.0, 0.0), Real::exp_minus_one, f64::exp_m1, 0.0) < 3.0);
        let tiny = (1..60).map(|power| -(2f32.powi(-power)));
        assert!(worst(tiny, Real::exp_minus_one, f64::exp_m1, 0.0) < 3.0);
        assert!(worst(between(1e-6, 1.5), Real::ln, f64::ln, 0.1) < 3.0);
        assert!(worst(between(1.0, 100.0), Real::ln, f64::ln, 0.1) < 3.0);
    }

    #[test]
    fn a_nan_stays_one() {
        assert!(Real::exp(f32::NAN).is_nan() && Real::exp_minus_one(f32::NAN).is_nan());
        assert!(Real::ln(f32::NAN).is_nan());
    }

    #[test]
    fn rounding_is_to_the_nearest() {
        for (value, expected) in [(0.4f32, 0.0), (0.6, 1.0), (254.51, 255.0), (127.0, 127.0)] {
            assert_eq!(Real::round(value), expected);
        }
    }
}
