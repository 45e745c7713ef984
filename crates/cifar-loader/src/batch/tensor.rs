//! Batches as Burn tensors.

use burn::tensor::{Device, Tensor, TensorData};

use crate::batch::ImageBatch;
use crate::image_format::{CHANNELS, HEIGHT, WIDTH};

impl ImageBatch {
    /// The images on `device`, in [0, 1].
    ///
    /// # Shapes
    /// - output: `[batch, 3, 32, 32]`
    pub fn to_tensor(&self, device: &Device) -> Tensor<4> {
        let shape = [self.len(), CHANNELS, HEIGHT, WIDTH];
        Tensor::from_data(TensorData::new(self.to_f32(), shape), device)
    }
}
