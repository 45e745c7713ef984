//! Dropout masks that come from outside, so that a run can be repeated.

use burn::prelude::*;
use burn::tensor::FloatDType;

/// What multiplies the intermediate features of one batch: 0 where a feature is dropped, `1 / (1 - rate)` elsewhere.
#[derive(Clone, Debug)]
pub struct DropoutMasks {
    /// `[batch, positions * intermediate_dim]`, feature fastest
    pub encoder: Tensor<2>,
    /// `[batch, intermediate_dim]`
    pub decoder: Tensor<2>,
}

impl DropoutMasks {
    /// Makes both masks from uniform draws in \[0, 1): a feature is dropped where its draw is below `rate`.
    ///
    /// # Shapes
    /// - encoder_uniform: `[batch, positions * intermediate_dim]`
    /// - decoder_uniform: `[batch, intermediate_dim]`
    ///
    /// # Panics
    /// If `rate` is outside \[0, 1).
    pub fn from_uniform(encoder_uniform: Tensor<2>, decoder_uniform: Tensor<2>, rate: f64) -> Self {
        assert!(
            (0.0..1.0).contains(&rate),
            "a dropout rate is in [0, 1), not {rate}"
        );
        let mask = |uniform: Tensor<2>| {
            let dtype = FloatDType::from(uniform.dtype());
            let kept = uniform.greater_equal_elem(rate).float().cast(dtype);
            kept.mul_scalar(1.0 / (1.0 - rate))
        };
        Self {
            encoder: mask(encoder_uniform),
            decoder: mask(decoder_uniform),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_features_are_scaled_so_that_the_mean_stays() {
        let device = Device::flex();
        let uniform = Tensor::<2>::from_floats([[0.0, 0.24, 0.25, 0.99]], &device);
        let masks = DropoutMasks::from_uniform(uniform.clone(), uniform, 0.25);
        let values = masks
            .encoder
            .into_data()
            .try_to_vec::<f32>()
            .expect("float32");
        assert_eq!(values, [0.0, 0.0, 4.0 / 3.0, 4.0 / 3.0]);
    }

    #[test]
    fn masks_have_the_type_of_the_draws() {
        let uniform = Tensor::<2>::from_floats([[0.5, 0.9]], &Device::flex());
        let wide = uniform.cast(FloatDType::F64);
        let masks = DropoutMasks::from_uniform(wide.clone(), wide, 0.25);
        assert_eq!(masks.encoder.dtype(), burn::tensor::DType::F64);
    }
}
