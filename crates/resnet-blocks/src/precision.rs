//! The element type in which convolutions and matrix products are computed.

use burn::prelude::*;
use burn::tensor::{DType, FloatDType};

/// The element type in which convolutions and matrix products are computed.
///
/// Parameters, norms, activations, sums of a residual block and everything that follows keep the parameters' own type
/// in both cases; only the operands and the result of a product are rounded. Biases are added after the result has been
/// widened again.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The parameters' own type: float32 in training.
    F32,
    /// Both operands rounded to bfloat16 (8 significant bits: relative error up to 2^-8 each), the result rounded to it and
    /// widened again; so are the gradients of operands and result. Products are summed in the parameters' type.
    ///
    /// On CPUs Burn's own operations make them: the blocks that are one operation on flex are float32. On GPUs the blocks' maps lie in
    /// memory as bfloat16 too, and norms and sums are computed in float32.
    Bf16,
}

impl Precision {
    /// An operand or the result of a product, rounded to the product's type and as values of `dtype` again.
    ///
    /// In that wider type because a backend may sum products in their own: on GPUs Burn's convolutions of bfloat16 do, and a
    /// weight's gradient over all pixels of a batch has no digit left then.
    pub(crate) fn round<const D: usize>(self, values: Tensor<D>, dtype: DType) -> Tensor<D> {
        match self {
            Self::F32 => values,
            Self::Bf16 => values.cast(FloatDType::BF16).cast(FloatDType::from(dtype)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

    fn layer(device: &Device) -> Linear {
        let mut layer = LinearConfig::new(2, 1).init(device);
        // 1 + 2^-9 is 1 in bfloat16, 1 + 2^-7 is itself.
        let weight = [[1.0 + 2f32.powi(-9)], [1.0 + 2f32.powi(-7)]];
        layer.weight = layer
            .weight
            .map(|_| Tensor::from_floats(weight, device).require_grad());
        let bias = [2f32.powi(-20)];
        layer.bias = layer
            .bias
            .map(|bias_| bias_.map(|_| Tensor::from_floats(bias, device).require_grad()));
        layer
    }

    #[test]
    fn operands_are_rounded_and_the_bias_is_not() {
        let device = Device::flex().autodiff();
        let layer = layer(&device);
        let input = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let output = |precision: Precision| {
            let output = precision.linear(&layer, input.clone());
            assert_eq!(output.dtype(), DType::F32);
            output.into_data().try_to_vec::<f32>().expect("float32")
        };
        let bias = 2f32.powi(-20);
        let (first, second) = (1.0 + 2f32.powi(-9), 1.0 + 2f32.powi(-7));
        assert_eq!(output(Precision::F32), [first + bias, second + bias]);
        assert_eq!(output(Precision::Bf16), [1.0 + bias, second + bias]);
    }

    #[test]
    fn gradients_have_the_type_of_the_parameters() {
        let device = Device::flex().autodiff();
        let layer = layer(&device);
        let input = Tensor::<2>::from_floats([[0.5, 4.0]], &device);
        let gradients = Precision::Bf16.linear(&layer, input).sum().backward();
        let gradient = layer.weight.val().grad(&gradients).expect("a gradient");
        assert_eq!(gradient.dtype(), DType::F32);
        let gradient = gradient.into_data().try_to_vec::<f32>().expect("float32");
        assert_eq!(gradient, [0.5, 4.0]);
    }
}
