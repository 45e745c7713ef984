//! Flex tensors as slices with channels fastest, and back.
//!
//! Inside, an image is `[height, width, channels]`: a pixel's channels are adjacent, so a 1x1 convolution is one product
//! over any number of pixels and a 3x3 one three products over windows of a padded image. Outside, the tensor keeps the
//! order `[batch, channels, height, width]` and only its strides tell; from block to block nothing is copied.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use crate::flex::element::Real;

/// A `[batch, channels, height, width]` tensor as a contiguous `[batch, height, width, channels]` one; copies only where
/// the strides are others.
pub(crate) fn channels_last(tensor: FlexTensor) -> FlexTensor {
    let view = tensor.permute(&[0, 2, 3, 1]);
    drop(tensor);
    view.to_contiguous()
}

/// A `[batch, channels, height, width]` tensor over values that have channels fastest.
pub(crate) fn from_channels_last<T: Real>(
    values: Vec<T>,
    [batch, height, width, channels]: [usize; 4],
) -> FlexTensor {
    dense(values, &[batch, height, width, channels]).permute(&[0, 3, 1, 2])
}

/// A tensor over contiguous values.
pub(crate) fn dense<T: Real>(values: Vec<T>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// The values of a small tensor, in order, as `f64`.
pub(crate) fn wide_values<T: Real>(tensor: &FlexTensor) -> Vec<f64> {
    let tensor = tensor.to_contiguous();
    tensor
        .storage::<T>()
        .iter()
        .map(|value| value.widen())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::image_dims;

    #[test]
    fn a_round_trip_shares_the_values() {
        let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let tensor = from_channels_last(values.clone(), [1, 2, 4, 3]);
        assert_eq!(image_dims(&tensor), [1, 3, 2, 4]);
        let address = tensor.bytes().as_ptr();
        let back = channels_last(tensor);
        assert_eq!(
            (back.bytes().as_ptr(), back.storage::<f32>()),
            (address, values.as_slice())
        );
        assert!(back.is_unique());
    }

    #[test]
    fn a_contiguous_tensor_is_reordered() {
        let tensor = dense(vec![1.0f64, 2.0, 3.0, 4.0], &[1, 2, 1, 2]);
        assert_eq!(
            channels_last(tensor.clone()).storage::<f64>(),
            [1.0, 3.0, 2.0, 4.0]
        );
        assert_eq!(wide_values::<f64>(&tensor), [1.0, 2.0, 3.0, 4.0]);
    }
}
