//! Dense layers whose product has a type of its own.

use burn::nn::Linear;
use burn::prelude::*;

use crate::dispatch::fast_linear;
use crate::precision::Precision;

impl Precision {
    /// Applies a dense layer.
    ///
    /// # Shapes
    /// - input: `[.., features_in]`
    /// - output: `[.., features_out]`, in the parameters' type
    ///
    /// # Panics
    /// If the input has another number of features.
    pub fn linear<const D: usize>(self, layer: &Linear, input: Tensor<D>) -> Tensor<D> {
        if let Some(output) = fast_linear(layer, &input, self) {
            return output;
        }
        match self {
            Self::F32 => layer.forward(input),
            Self::Bf16 => {
                let dtype = input.dtype();
                let weight = layer.weight.val();
                let own = weight.dtype();
                let (input, weight) = (self.round(input, own), self.round(weight, own));
                let product = burn::tensor::module::linear(input, weight, None);
                let product = self.round(product, dtype);
                match &layer.bias {
                    Some(bias) => product + bias.val().unsqueeze(),
                    None => product,
                }
            }
        }
    }
}
