//! Bernoulli cross-entropy of grey levels.

use burn::prelude::*;

/// Cross-entropy of pixels in \[0, 1\] against Bernoulli distributions given by logits, in nats per image.
///
/// ```text
/// sum over pixels of max(l, 0) - l x + log(1 + exp(-|l|))
/// ```
///
/// Against a pixel that is neither 0 nor 1 it has a floor, the pixel's own entropy, and it is no likelihood of 8-bit
/// pixels: it cannot be turned into bits per dimension.
///
/// # Shapes
/// - logits, pixels: `[batch, channels, height, width]`
/// - output: `[batch]`
pub fn bernoulli_cross_entropy(logits: Tensor<4>, pixels: Tensor<4>) -> Tensor<1> {
    // Halved first, because the sum of the largest numbers would overflow; halving and doubling are exact.
    let half = logits.clone().mul_scalar(0.5);
    let half_magnitude = half.clone().abs();
    // max(l, 0) as l / 2 + |l| / 2 has the right derivative, 1/2, where l is 0.
    let positive_part = half + half_magnitude.clone();
    let nats = positive_part - logits * pixels + half_magnitude.mul_scalar(-2.0).exp().log1p();
    nats.flatten::<2>(1, 3).sum_dim(1).squeeze_dim::<1>(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cross_entropy(logit: f32, pixel: f32) -> (f32, f32) {
        let device = Device::flex().autodiff();
        let logits = Tensor::<4>::full([1, 1, 1, 1], logit, &device).require_grad();
        let value =
            bernoulli_cross_entropy(logits.clone(), Tensor::full([1, 1, 1, 1], pixel, &device));
        let gradients = value.clone().backward();
        let gradient = logits
            .grad(&gradients)
            .expect("a gradient")
            .into_scalar::<f32>();
        (value.into_scalar::<f32>(), gradient)
    }

    #[test]
    fn a_logit_of_zero_costs_ln_2_and_has_gradient_one_half_minus_the_pixel() {
        for pixel in [0.0, 0.25, 1.0] {
            let (value, gradient) = cross_entropy(0.0, pixel);
            assert!((value - std::f32::consts::LN_2).abs() < 1e-7);
            assert_eq!(gradient, 0.5 - pixel);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn value_and_gradient_agree_with_float64(
            logit in prop_oneof![-20.0f32..20.0, -1e4f32..1e4], pixel in 0.0f32..=1.0,
        ) {
            let (value, gradient) = cross_entropy(logit, pixel);
            let (l, x) = (logit as f64, pixel as f64);
            let expected = l.max(0.0) - l * x + (-l.abs()).exp().ln_1p();
            let slope = 1.0 / (1.0 + (-l).exp()) - x;
            prop_assert!((value as f64 - expected).abs() <= 1e-5f64.max(5e-5 * expected.abs()), "{} against {}", value, expected);
            prop_assert!((gradient as f64 - slope).abs() <= 1e-6, "{} against {}", gradient, slope);
        }
    }

    #[test]
    fn the_largest_float32_logits_give_finite_values_where_the_pixel_agrees() {
        let (value, gradient) = cross_entropy(1e38, 1.0);
        assert_eq!((value, gradient), (0.0, 0.0));
        let (value, gradient) = cross_entropy(-1e38, 0.0);
        assert_eq!((value, gradient), (0.0, 0.0));
    }
}
