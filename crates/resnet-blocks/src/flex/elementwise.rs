//! Elementwise passes over maps with channels fastest, `[.., channels]`, compiled for wide registers too.
//!
//! A build for any x86-64 processor may assume registers of two doubles only. Each pass exists a second time for AVX2 and
//! is chosen at run time. Both times it is the same code without fused or reordered operations, so results are equal.
//!
//! Invariant of the `unsafe` calls: a function compiled for AVX2 is called only where the processor was asked and has it.
#![allow(unsafe_code)]

use crate::flex::element::{Real, relu};

/// Defines a function whose body is compiled for the build's target and for AVX2.
macro_rules! vectorized {
    ($($(#[$attribute:meta])* fn $name:ident<$t:ident>($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        pub(crate) fn $name<$t: Real>($($argument: $type),*) $(-> $output)? {
            #[inline(always)]
            fn portable<$t: Real>($($argument: $type),*) $(-> $output)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide<$t: Real>($($argument: $type),*) $(-> $output)? {
                    portable($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    )*};
}

vectorized! {
    /// `relu(scale * value + shift)`.
    fn activate<T>(values: &[T], scale: &[T], shift: &[T], output: &mut [T]) {
        let channels = scale.len();
        let shift = &shift[..channels];
        for (values, output) in values.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                output[channel] = relu(values[channel] * scale[channel] + shift[channel]);
            }
        }
    }

    /// `relu(scale * value + shift) - mean`.
    fn activate_centred<T>(values: &[T], scale: &[T], shift: &[T], mean: &[T], output: &mut [T]) {
        let channels = scale.len();
        let (shift, mean) = (&shift[..channels], &mean[..channels]);
        for (values, output) in values.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                output[channel] = relu(values[channel] * scale[channel] + shift[channel]) - mean[channel];
            }
        }
    }

    /// Passes `gradient - constant` on, in place, where `scale * value + shift` is not cut by the ReLU; adds it to `sum`,
    /// and times `value - mean` to `weighted_sum`. The parameters are scale, shift, mean and constant.
    fn activate_backward<T>(
        values: &[T],
        parameters: [&[T]; 4],
        gradient: &mut [T],
        sum: &mut [T],
        weighted_sum: &mut [T],
    ) {
        let [scale, shift, mean, constant] = parameters;
        let channels = scale.len();
        let (shift, mean, constant) = (&shift[..channels], &mean[..channels], &constant[..channels]);
        let (sum, weighted_sum) = (&mut sum[..channels], &mut weighted_sum[..channels]);
        for (values, gradient) in values.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
            let (values, gradient) = (&values[..channels], &mut gradient[..channels]);
            for channel in 0..channels {
                let (value, given) = (values[channel], gradient[channel] - constant[channel]);
                let is_cut = value * scale[channel] + shift[channel] <= T::ZERO;
                let passed = if is_cut { T::ZERO } else { given };
                gradient[channel] = passed;
                sum[channel] += passed;
                weighted_sum[channel] += passed * (value - mean[channel]);
            }
        }
    }

    /// `scale * gradient - constant - slope * (value - mean)`: a norm's input gradient from its output's.
    /// The parameters are scale, constant, slope and mean.
    fn norm_backward<T>(
        gradient: &[T],
        values: &[T],
        parameters: [&[T]; 4],
        output: &mut [T],
    ) {
        let [scale, constant, slope, mean] = parameters;
        let channels = scale.len();
        let (constant, slope, mean) = (&constant[..channels], &slope[..channels], &mean[..channels]);
        let pixels = gradient.chunks_exact(channels).zip(values.chunks_exact(channels));
        for ((gradient, values), output) in pixels.zip(output.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                output[channel] = gradient[channel] * scale[channel]
                    - constant[channel]
                    - slope[channel] * (values[channel] - mean[channel]);
            }
        }
    }

    /// The gradient where the ReLU's output is not zero (a NaN passes), zero elsewhere; adds it to `sum`.
    fn mask<T>(gradient: &[T], output: &[T], masked: &mut [T], sum: &mut [T]) {
        let channels = sum.len();
        let pixels = gradient.chunks_exact(channels).zip(output.chunks_exact(channels));
        for ((gradient, output), masked) in pixels.zip(masked.chunks_exact_mut(channels)) {
            let (gradient, output, masked) = (&gradient[..channels], &output[..channels], &mut masked[..channels]);
            for channel in 0..channels {
                let given = gradient[channel];
                let passed = if output[channel] <= T::ZERO { T::ZERO } else { given };
                masked[channel] = passed;
                sum[channel] += passed;
            }
        }
    }

    /// [`mask`] in place.
    fn mask_in_place<T>(gradient: &mut [T], output: &[T], sum: &mut [T]) {
        let channels = sum.len();
        for (gradient, output) in gradient.chunks_exact_mut(channels).zip(output.chunks_exact(channels)) {
            let (gradient, output) = (&mut gradient[..channels], &output[..channels]);
            for channel in 0..channels {
                let given = gradient[channel];
                let passed = if output[channel] <= T::ZERO { T::ZERO } else { given };
                gradient[channel] = passed;
                sum[channel] += passed;
            }
        }
    }

    /// `relu(output + shift)` in place.
    fn finish<T>(output: &mut [T], shift: &[T]) {
        let channels = shift.len();
        for output in output.chunks_exact_mut(channels) {
            for channel in 0..channels {
                output[channel] = relu(output[channel] + shift[channel]);
            }
        }
    }

    /// `relu(output + shift + identity)` in place.
    fn finish_with<T>(output: &mut [T], shift: &[T], identity: &[T]) {
        let channels = shift.len();
        for (output, identity) in output.chunks_exact_mut(channels).zip(identity.chunks_exact(channels)) {
            for channel in 0..channels {
                output[channel] = relu(output[channel] + shift[channel] + identity[channel]);
            }
        }
    }


    /// Subtracts one value a channel.
    fn centre<T>(values: &mut [T], mean: &[T]) {
        let channels = mean.len();
        for pixel in values.chunks_exact_mut(channels) {
            for channel in 0..channels {
                pixel[channel] = pixel[channel] - mean[channel];
            }
        }
    }

    /// Adds every pixel to `sums`.
    fn add_channels<T>(values: &[T], sums: &mut [T]) {
        let channels = sums.len();
        for pixel in values.chunks_exact(channels) {
            for channel in 0..channels {
                sums[channel] += pixel[channel];
            }
        }
    }

    /// Adds the square of every pixel's distance to the mean to `sums`.
    fn add_squares<T>(values: &[T], mean: &[T], sums: &mut [T]) {
        let channels = sums.len();
        let mean = &mean[..channels];
        for pixel in values.chunks_exact(channels) {
            for channel in 0..channels {
                let distance = pixel[channel] - mean[channel];
                sums[channel] += distance * distance;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_passes_every_relu() {
        let mut output = [0.0f32; 2];
        activate(&[f32::NAN, -1.0], &[1.0, 1.0], &[0.0, 0.0], &mut output);
        assert!(output[0].is_nan() && output[1] == 0.0);
        let mut sums = [0.0f32; 2];
        let mut masked = [3.0f32, 4.0];
        mask_in_place(&mut masked, &output, &mut sums);
        assert_eq!((masked, sums), ([3.0, 0.0], [3.0, 0.0]));
        finish(&mut output, &[0.0, -1.0]);
        assert!(output[0].is_nan() && output[1] == 0.0);
    }

    #[test]
    fn a_norm_and_its_relu_pass_the_gradient_where_the_output_is_positive() {
        let (mut gradient, mut sum, mut weighted) = ([2.0f64, 2.0, 5.0, 5.0], [0.0; 2], [0.0; 2]);
        let values = [1.0, -1.0, 3.0, 4.0];
        let parameters: [&[f64]; 4] = [&[1.0, 1.0], &[0.0, 0.5], &[1.0, 2.0], &[0.5, 0.5]];
        activate_backward(&values, parameters, &mut gradient, &mut sum, &mut weighted);
        assert_eq!(gradient, [1.5, 0.0, 4.5, 4.5]);
        assert_eq!((sum, weighted), ([6.0, 4.5], [9.0, 9.0]));
    }
}
