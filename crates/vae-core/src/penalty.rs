//! The experiment's L2 penalties on the two heads.

use burn::nn::Linear;
use burn::prelude::*;
use resnet_blocks::sum_in_fixed_order;

/// `weight * (sum of squared weights + sum of squared biases)` of a dense layer.
///
/// A part of the loss (Keras' `kernel_regularizer` and `bias_regularizer`), not the decoupled decay of an optimizer.
///
/// # Shapes
/// - output: `[1]`
pub fn l2_penalty(layer: &Linear, weight: f64) -> Tensor<1> {
    let squared = sum_in_fixed_order(layer.weight.val().square());
    let squared = match &layer.bias {
        Some(bias) => squared + sum_in_fixed_order(bias.val().square()),
        None => squared,
    };
    squared.mul_scalar(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::LinearConfig;

    #[test]
    fn weights_and_biases_both_count() {
        let device = Device::flex();
        let mut layer = LinearConfig::new(2, 1).init(&device);
        layer.weight = Param::from_tensor(Tensor::from_floats([[1.0], [-2.0]], &device));
        layer.bias = Some(Param::from_tensor(Tensor::from_floats([3.0], &device)));
        let penalty = l2_penalty(&layer, 0.1).into_scalar::<f32>();
        assert!((penalty - 1.4).abs() < 1e-6, "{penalty}");
    }
}
