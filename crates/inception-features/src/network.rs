//! The whole network, from images to the features of its last average.

use burn::prelude::*;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::blocks::{Block, BlockPlan, halve};
use crate::convolution::{Convolution, ConvolutionPlan, Steps};
use crate::weights::{Weights, WeightsError};

/// Features of an image.
pub const FEATURES: usize = 2048;

/// What a FID of these features is stamped with: two FIDs are comparable where this, the weights, the reference images and the
/// number of images are the same.
pub const PROTOCOL: &str = "pytorch-fid: InceptionV3 of 2015-12-05, 2048 features of the last average pool, bilinear to \
                            299 x 299 with align_corners=False, inputs in [-1, 1], images of 8 bits";

/// Values an image of the largest map between two layers: 64 channels of 147 x 147 pixels, behind the stem's third convolution.
pub const LARGEST_MAP: usize = 64 * 147 * 147;

/// Height and width that images are resized to.
const SIDE: usize = 299;

/// The Inception network of the FID, without its classifier.
#[derive(Clone, Debug)]
pub struct Inception {
    /// 299 to 147 pixels, and after the first pooling 73 to 71.
    stem: [Vec<Convolution>; 2],
    blocks: Vec<Block<Convolution>>,
    device: Device,
}

impl Inception {
    /// The network with these weights, on a device, without autodiff.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn new(weights: &Weights, device: &Device) -> Result<Self, WeightsError> {
        let device = device.clone().inner();
        let build = |plan| Convolution::new(plan, weights, &device);
        let all = |plans: Vec<ConvolutionPlan>| {
            plans.into_iter().map(build).collect::<Result<Vec<_>, _>>()
        };
        let [first, second] = stem();
        let (first, second) = (all(first)?, all(second)?);
        let blocks = blocks()
            .into_iter()
            .map(|block| block.build(&build))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            stem: [first, second],
            blocks,
            device,
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Features of `[batch, 3, height, width]` in \[0, 1\]: `[batch, 2048]`.
    ///
    /// For a FID, give images as 8 bits hold them: whole numbers divided by 255.
    ///
    /// # Panics
    /// If the images have another number of channels.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let [_, channels, ..] = images.dims();
        assert_eq!(channels, 3, "channels of an image: red, green, blue");
        let resized = interpolate(
            images,
            InterpolateOptions::new(InterpolateMode::Bilinear)
                .with_align_corners(false)
                .with_output_size([SIDE, SIDE]),
        );
        let mut images = resized.mul_scalar(2.0).sub_scalar(1.0);
        for convolutions in &self.stem {
            for convolution in convolutions {
                images = convolution.forward(images);
            }
            images = halve(images);
        }
        for block in &self.blocks {
            images = block.forward(images);
        }
        let [batch, features, height, width] = images.dims();
        images
            .reshape([batch, features, height * width])
            .mean_dim(2)
            .reshape([batch, features])
    }
}

/// Names and shapes of all tensors that the network reads, as its published file has them.
pub fn tensor_shapes() -> Vec<(String, Vec<usize>)> {
    let (stem, blocks) = (stem(), blocks());
    let of_blocks = blocks.iter().flat_map(Block::plans);
    stem.iter()
        .flatten()
        .chain(of_blocks)
        .flat_map(ConvolutionPlan::tensors)
        .collect()
}

/// The convolutions before the first pooling, from 299 to 147 pixels, and before the second, from 73 to 71.
fn stem() -> [Vec<ConvolutionPlan>; 2] {
    let plan = |name: &str, input, output, side, steps| ConvolutionPlan {
        name: name.to_owned(),
        input,
        output,
        kernel: [side, side],
        steps,
    };
    [
        vec![
            plan("Conv2d_1a_3x3", 3, 32, 3, Steps::Inside(2)),
            plan("Conv2d_2a_3x3", 32, 32, 3, Steps::Inside(1)),
            plan("Conv2d_2b_3x3", 32, 64, 3, Steps::Same),
        ],
        vec![
            plan("Conv2d_3b_1x1", 64, 80, 1, Steps::Inside(1)),
            plan("Conv2d_4a_3x3", 80, 192, 3, Steps::Inside(1)),
        ],
    ]
}

fn blocks() -> [Block<ConvolutionPlan>; 11] {
    let block = |name, input| BlockPlan { name, input };
    [
        block("Mixed_5b", 192).block_a(32),
        block("Mixed_5c", 256).block_a(64),
        block("Mixed_5d", 288).block_a(64),
        block("Mixed_6a", 288).block_b(),
        block("Mixed_6b", 768).block_c(128),
        block("Mixed_6c", 768).block_c(160),
        block("Mixed_6d", 768).block_c(160),
        block("Mixed_6e", 768).block_c(192),
        block("Mixed_7a", 768).block_d(),
        block("Mixed_7b", 1280).block_e(),
        block("Mixed_7c", 2048).block_e_with_maximum(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_the_published_files_tensors() {
        let shapes = tensor_shapes();
        // torchvision gives its Inception 27,161,264 weights: 3,326,696 of them in the auxiliary classifier and 2,049,000 in
        // the classifier, which no feature needs. Running values are no weights.
        assert_eq!(shapes.len(), 94 * 5);
        let values = |name: &str| {
            let of_name = shapes.iter().filter(|(tensor, _)| tensor.contains(name));
            of_name
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum::<usize>()
        };
        assert_eq!(values("") - values("running"), 21_785_568);
    }
}
