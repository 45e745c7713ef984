//! Elementwise non-linearities.

use burn::prelude::*;
use burn::tensor::activation;

/// A non-linearity chosen by configuration.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`, what He et al. use in every block.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * Phi(x)` with the standard normal distribution function `Phi`.
    Gelu,
}

impl Activation {
    /// Applies the non-linearity to every element.
    ///
    /// # Shapes
    /// - input, output: any, equal
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::Relu => activation::relu(input),
            Activation::Sigmoid => activation::sigmoid(input),
            Activation::Tanh => input.tanh(),
            Activation::Silu => activation::silu(input),
            Activation::Gelu => activation::gelu(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_activation_matches_its_formula_at_minus_one_half() {
        let expected = [
            (Activation::Relu, 0.0),
            (Activation::Sigmoid, 1.0 / (1.0 + 0.5f64.exp())),
            (Activation::Tanh, (-0.5f64).tanh()),
            (Activation::Silu, -0.5 / (1.0 + 0.5f64.exp())),
            (Activation::Gelu, -0.154_268_769_363_007_23),
        ];
        for (activation, value) in expected {
            let input = Tensor::<1>::from_floats([-0.5], &Device::flex());
            let output = activation.forward(input).into_scalar::<f32>();
            assert!(
                (output as f64 - value).abs() < 1e-6,
                "{activation:?}: {output}"
            );
        }
    }
}
