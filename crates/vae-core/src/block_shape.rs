//! The sizes of a model's blocks, from its configuration alone.

use resnet_blocks::Shortcuts;

use crate::config::{STRIDES, VaeConfig};

/// The sizes of one bottleneck block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the 3x3 convolution.
    pub width: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Height and width of the input, in pixels.
    pub size_in: usize,
    /// Height and width of the output, in pixels.
    pub size_out: usize,
    /// Whether the path around the block has a convolution and a norm.
    pub projects: bool,
}

impl BlockShape {
    /// Pixels of the input.
    pub fn pixels_in(&self) -> usize {
        self.size_in * self.size_in
    }

    /// Pixels of the output.
    pub fn pixels_out(&self) -> usize {
        self.size_out * self.size_out
    }

    /// Pixels at the lower of the two resolutions, where a 1x1 convolution with a stride works.
    pub fn pixels_low(&self) -> usize {
        self.pixels_in().min(self.pixels_out())
    }
}

impl VaeConfig {
    /// The encoder's blocks, then the decoder's, in the order of application.
    pub fn block_shapes(&self) -> [Vec<BlockShape>; 2] {
        let spread = self.intermediate_dim / self.positions();
        [
            self.side(self.image_channels, self.image_size, false),
            self.side(spread, self.grid(), true),
        ]
    }

    /// Values an image of the largest map that a pass without gradients makes: what a block takes and gives, what its 3x3 convolution gathers for
    /// a matrix product, and what the pixels' distributions are read from.
    pub fn largest_map(&self) -> usize {
        let pixels = self.image_size * self.image_size;
        let output = pixels * self.likelihood.decoder_channels(self.image_channels);
        let blocks = self.block_shapes().into_iter().flatten();
        let maps = blocks.flat_map(|block| {
            [
                block.pixels_in() * block.channels_in,
                block.pixels_low() * 9 * block.width,
                block.pixels_out() * block.channels_out,
            ]
        });
        maps.fold(output, usize::max)
    }

    fn side(
        &self,
        mut channels_in: usize,
        mut size_in: usize,
        transposed: bool,
    ) -> Vec<BlockShape> {
        let mut blocks = Vec::new();
        let stages = self.stage_widths.into_iter().zip(self.identity_blocks);
        for ((width, identity_blocks), first_stride) in stages.zip(STRIDES) {
            for block in 0..=identity_blocks {
                let stride = if block == 0 { first_stride } else { 1 };
                let size_out = if transposed {
                    size_in * stride
                } else {
                    size_in / stride
                };
                let channels_out = 4 * width;
                let changes_shape = stride != 1 || channels_in != channels_out;
                let is_residual = self.shortcuts == Shortcuts::Residual;
                blocks.push(BlockShape {
                    channels_in,
                    width,
                    channels_out,
                    size_in,
                    size_out,
                    projects: is_residual && changes_shape,
                });
                (channels_in, size_in) = (channels_out, size_out);
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Depth;

    #[test]
    fn the_largest_map_is_the_last_blocks_or_the_distributions() {
        let largest = |depth| VaeConfig::preset(depth).largest_map();
        assert_eq!(largest(Depth::Depth28), 32 * 32 * 2048);
        // Of identity blocks at 32 x 32 positions: what their 3x3 convolutions gather.
        assert_eq!(largest(Depth::Depth70), 32 * 32 * 9 * 512);
        let narrow = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(1.0 / 64.0)
            .with_likelihood(vae_measures::Likelihood::LogisticMixture { components: 10 });
        assert_eq!(narrow.largest_map(), 32 * 32 * 100);
    }

    #[test]
    fn blocks_lead_from_the_image_to_the_smallest_map_and_back() {
        for depth in Depth::ALL {
            let config = VaeConfig::preset(depth);
            let [encoder, decoder] = config.block_shapes();
            // Three layers a block and side; four layers stand outside blocks.
            assert_eq!(3 * (encoder.len() + decoder.len()) + 4, config.layers());
            let ends = |blocks: &[BlockShape]| {
                let (first, last) = (blocks[0], blocks[blocks.len() - 1]);
                [
                    (first.channels_in, first.size_in),
                    (last.channels_out, last.size_out),
                ]
            };
            assert_eq!(ends(&encoder), [(3, 32), (2048, 4)]);
            assert_eq!(ends(&decoder), [(64, 4), (2048, 32)]);
            for blocks in [&encoder, &decoder] {
                for pair in blocks.windows(2) {
                    assert_eq!(
                        (pair[0].channels_out, pair[0].size_out),
                        (pair[1].channels_in, pair[1].size_in)
                    );
                }
                assert_eq!(blocks.iter().filter(|block| block.projects).count(), 4);
            }
        }
    }
}
