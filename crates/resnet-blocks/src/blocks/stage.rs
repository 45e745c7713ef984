//! Blocks in sequence: the first changes size and channels, the others keep them.

use burn::prelude::*;

use crate::activation::Activation;
use crate::blocks::basic_block::{BasicBlock, BasicBlockConfig};
use crate::blocks::bottleneck::{Bottleneck, BottleneckConfig};
use crate::blocks::shortcut::Shortcuts;
use crate::convolution::Convolution;
use crate::norm::NormConfig;
use crate::precision::Precision;
use crate::sampling::Sampling;

/// Which block a stage is made of.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3x3 convolutions; a stage of width `m` has `m` output channels.
    Basic,
    /// 1x1, 3x3, 1x1; a stage of width `m` has `4 m` output channels.
    Bottleneck,
}

impl BlockKind {
    /// Output channels per unit of width.
    pub fn expansion(self) -> usize {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

/// Configuration of a [`Stage`].
#[derive(Config, Debug)]
pub struct StageConfig {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the stage's 3x3 convolutions.
    pub width: usize,
    /// Blocks after the first; each keeps size and channels.
    pub num_identity_blocks: usize,
    /// Stride of the first block. Default: 1.
    #[config(default = 1)]
    pub stride: usize,
    /// Kind of every block. Default: bottleneck.
    #[config(default = "BlockKind::Bottleneck")]
    pub block: BlockKind,
    /// Direction of the first block's stride. Default: strided.
    #[config(default = "Sampling::Strided")]
    pub sampling: Sampling,
    /// With or without shortcuts. Default: with.
    #[config(default = "Shortcuts::Residual")]
    pub shortcuts: Shortcuts,
    /// Epsilon and momentum of every norm.
    #[config(default = "NormConfig::new()")]
    pub norm: NormConfig,
    /// After each norm. Default: ReLU.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Type of every convolution's product. Default: that of the parameters.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
}

/// A block of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A stage has a handful of blocks, all of one kind.
pub enum Block {
    /// Two 3x3 convolutions.
    Basic(BasicBlock),
    /// 1x1, 3x3, 1x1.
    Bottleneck(Bottleneck),
}

impl Block {
    /// # Shapes
    /// See [`BasicBlock::forward`] and [`Bottleneck::forward`].
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Block::Basic(block) => block.forward(input),
            Block::Bottleneck(block) => block.forward(input),
        }
    }

    /// The block, and then a 1x1 convolution.
    ///
    /// # Shapes
    /// See [`Bottleneck::forward_then`].
    pub fn forward_then(&self, input: Tensor<4>, next: &Convolution) -> Tensor<4> {
        match self {
            Block::Basic(block) => next.forward(block.forward(input)),
            Block::Bottleneck(block) => block.forward_then(input, next),
        }
    }
}

/// One block that changes size and channels, then blocks that keep them.
#[derive(Module, Debug)]
pub struct Stage {
    /// In order of application; never empty.
    pub blocks: Vec<Block>,
}

impl StageConfig {
    /// Channels of the output.
    pub fn channels_out(&self) -> usize {
        self.block.expansion() * self.width
    }

    /// Creates the stage with Glorot-uniform weights and zero biases.
    ///
    /// # Panics
    /// If a channel count or the stride is zero.
    pub fn init(&self, device: &Device) -> Stage {
        let mut blocks = vec![self.block(self.channels_in, self.stride, self.sampling, device)];
        for _ in 0..self.num_identity_blocks {
            blocks.push(self.block(self.channels_out(), 1, Sampling::Strided, device));
        }
        Stage { blocks }
    }

    fn block(
        &self,
        channels_in: usize,
        stride: usize,
        sampling: Sampling,
        device: &Device,
    ) -> Block {
        match self.block {
            BlockKind::Basic => Block::Basic(
                BasicBlockConfig::new(channels_in, self.width)
                    .with_stride(stride)
                    .with_sampling(sampling)
                    .with_shortcuts(self.shortcuts)
                    .with_norm(self.norm.clone())
                    .with_activation(self.activation)
                    .with_precision(self.precision)
                    .init(device),
            ),
            BlockKind::Bottleneck => Block::Bottleneck(
                BottleneckConfig::new(channels_in, self.width)
                    .with_stride(stride)
                    .with_sampling(sampling)
                    .with_shortcuts(self.shortcuts)
                    .with_norm(self.norm.clone())
                    .with_activation(self.activation)
                    .with_precision(self.precision)
                    .init(device),
            ),
        }
    }
}

impl Stage {
    /// Applies the blocks in order.
    ///
    /// # Shapes
    /// - input: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]` rounded up, or
    ///   `[batch, channels_out, height * stride, width * stride]` where transposed
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.blocks
            .iter()
            .fold(input, |hidden, block| block.forward(hidden))
    }

    /// [`forward`](Self::forward), and then a 1x1 convolution; see [`Bottleneck::forward_then`].
    ///
    /// # Shapes
    /// As [`forward`](Self::forward); the output has the convolution's channels and size.
    pub fn forward_then(&self, input: Tensor<4>, next: &Convolution) -> Tensor<4> {
        let Some((last, before)) = self.blocks.split_last() else {
            return next.forward(input);
        };
        let hidden = before
            .iter()
            .fold(input, |hidden, block| block.forward(hidden));
        last.forward_then(hidden, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn output_has_the_declared_channels_and_the_strided_size(
            channels_in in 1usize..6, width in 1usize..4, identity in 0usize..3, stride in 1usize..4,
            size in (1usize..7, 1usize..7), basic: bool, transposed: bool, plain: bool,
        ) {
            let device = Device::flex();
            let config = StageConfig::new(channels_in, width, identity)
                .with_stride(stride)
                .with_block(if basic { BlockKind::Basic } else { BlockKind::Bottleneck })
                .with_sampling(if transposed { Sampling::Transposed } else { Sampling::Strided })
                .with_shortcuts(if plain { Shortcuts::Plain } else { Shortcuts::Residual });
            let stage = config.init(&device);
            prop_assert_eq!(stage.blocks.len(), 1 + identity);
            let output = stage.forward(Tensor::ones([2, channels_in, size.0, size.1], &device));
            let scaled = |length: usize| if transposed { length * stride } else { length.div_ceil(stride) };
            prop_assert_eq!(output.dims(), [2, config.channels_out(), scaled(size.0), scaled(size.1)]);
        }
    }

    fn has_projection(block: &Block) -> bool {
        match block {
            Block::Basic(block) => block.shortcut.projection.is_some(),
            Block::Bottleneck(block) => block.shortcut.projection.is_some(),
        }
    }

    #[test]
    fn a_projection_stands_exactly_where_stride_or_channels_change() {
        let device = Device::flex();
        for block in [BlockKind::Basic, BlockKind::Bottleneck] {
            let channels = 2 * block.expansion();
            let stage = |channels_in, stride| {
                StageConfig::new(channels_in, 2, 1)
                    .with_stride(stride)
                    .with_block(block)
                    .init(&device)
            };
            assert!(
                !has_projection(&stage(channels, 1).blocks[0]),
                "neither changes"
            );
            assert!(
                has_projection(&stage(channels, 2).blocks[0]),
                "the stride changes"
            );
            assert!(
                has_projection(&stage(channels + 1, 1).blocks[0]),
                "channels change"
            );
            assert!(
                !has_projection(&stage(channels + 1, 2).blocks[1]),
                "the second block keeps both"
            );
        }
    }

    #[test]
    fn a_plain_stage_has_no_projection_and_fewer_parameters() {
        let device = Device::flex();
        let config = StageConfig::new(3, 4, 1);
        let plain = config
            .clone()
            .with_shortcuts(Shortcuts::Plain)
            .init(&device);
        assert!(!plain.blocks.iter().any(has_projection));
        // The projection of the first block: weights, bias, and four vectors of its norm.
        let projection = 3 * 16 + 16 + 4 * 16;
        assert_eq!(
            plain.num_params() + projection,
            config.init(&device).num_params()
        );
    }
}
