//! What the blocks of a ResNet VAE keep and need: each term is a tensor with a name.

use vae_core::{BlockShape, VaeConfig};

use super::conditions::{F32, Form};

/// What a block needs, in bytes.
pub(super) struct BlockNeed {
    /// From its forward to its backward pass.
    pub(super) kept: u64,
    /// In its backward pass, besides.
    pub(super) backward: u64,
}

impl BlockNeed {
    /// Of a block that keeps nothing but its input, and is computed again in the backward pass.
    fn recomputed(self, block: &BlockShape, images: u64) -> Self {
        Self {
            kept: F32 * images * (block.pixels_in() * block.channels_in) as u64,
            backward: self.kept + self.backward,
        }
    }
}

/// What each block needs in a step over `images`, in the order of the forward pass.
pub(super) fn block_needs(
    config: &VaeConfig,
    form: Form,
    images: u64,
    recomputes: bool,
) -> impl Iterator<Item = BlockNeed> {
    let blocks = config.block_shapes().into_iter().flatten();
    blocks.map(move |block| {
        let need = match form {
            Form::Fast => fast_block(&block, images),
            Form::Plain | Form::OnDevice(_) => plain_block(&block, images),
        };
        if recomputes {
            need.recomputed(&block, images)
        } else {
            need
        }
    })
}

/// What evaluation of so many images at a time holds at most: two maps of a block and its narrow ones.
pub(super) fn evaluation_bytes(config: &VaeConfig, images: u64) -> u64 {
    let blocks = config.block_shapes().into_iter().flatten();
    let bytes = blocks.map(|block| {
        let values = block.pixels_in() * block.channels_in
            + block.pixels_out() * (2 * block.width + 2 * block.channels_out);
        F32 * images * values as u64
    });
    bytes.max().unwrap_or(0)
}

/// Chunks that the blocks on flex divide a batch into, each of which has sums of its own.
fn flex_chunks(images: u64, pixels: u64) -> u64 {
    let images_per_chunk = (1024 / pixels.max(1)).min(images.div_ceil(8)).max(1);
    images.div_ceil(images_per_chunk)
}

/// A bottleneck in its fast form on flex: what has the output's width is kept once.
fn fast_block(block: &BlockShape, images: u64) -> BlockNeed {
    let [input, output, low] =
        [block.pixels_in(), block.pixels_out(), block.pixels_low()].map(|pixels| pixels as u64);
    let [channels_in, width, channels_out] =
        [block.channels_in, block.width, block.channels_out].map(|channels| channels as u64);
    let map = |pixels: u64, channels: u64| F32 * images * pixels * channels;
    let is_strided = input > output;
    let around = |value: u64| if block.projects { value } else { 0 };

    // The pixels that a stride samples, both narrow maps, and the output.
    let sampled = if is_strided { map(low, channels_in) } else { 0 };
    let maps = sampled + map(low, width) + map(output, width) + map(output, channels_out);
    // Weights and their covariances in float64, and the 3x3 kernel in both directions.
    let weights = 8 * (channels_in * width + 2 * width * channels_out + width * width)
        + F32 * 2 * 9 * width * width
        + around(8 * (2 * channels_in * channels_out + channels_in * channels_in));

    // The gradients of the output, of expand's input and of shortcut's, then that of the reduced map; each pass has the
    // sums of its chunks, and the last one the gradient of a strided input.
    let chunks = F32 * flex_chunks(images, output);
    let gradients = map(output, channels_out) + map(output, width) + around(map(low, channels_in));
    let tail = chunks * (width * channels_out + around(channels_in * channels_out));
    let spatial = map(low, width) + chunks * 9 * width * width;
    let spread = if is_strided {
        map(input, channels_in)
    } else {
        0
    };
    let reduce = map(low, width) + (chunks * channels_in * width).max(spread);
    BlockNeed {
        kept: maps + weights,
        backward: gradients + tail.max(spatial).max(reduce),
    }
}

/// A bottleneck of Burn's own operations: a convolution keeps its input, a norm its own (the convolution's output), a ReLU its own
/// (the norm's output, or the sum at the end of the block). Operands rounded to bfloat16 are kept as float32 too. An upsampling block keeps what comes before its 3x3 convolution,
/// and its shortcut, at the lower resolution.
fn plain_block(block: &BlockShape, images: u64) -> BlockNeed {
    let map = |pixels: usize, channels: usize| F32 * images * (pixels * channels) as u64;
    let (low, output) = (block.pixels_low(), block.pixels_out());
    let (width, channels_out) = (block.width, block.channels_out);
    let around = if block.projects { channels_out } else { 0 };
    // Of the reduced map and the shortcut; of the other two.
    let before = map(low, 3 * width + around);
    let after = width + channels_out;
    BlockNeed {
        kept: before + map(output, 3 * after),
        // In the last norm: the gradient, the normalised input, their product, and both brought into the order of a sum a
        // channel; the ReLU's and the norm's own kept inputs are free by then.
        backward: 3 * map(output, channels_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_block_keeps_what_its_layers_name() {
        // One image, 2 x 2 pixels, 4 channels in, width 1: an identity block without stride.
        let block = BlockShape {
            channels_in: 4,
            width: 1,
            channels_out: 4,
            size_in: 2,
            size_out: 2,
            projects: false,
        };
        // Per pixel: inputs of convolutions 4 + 1 + 1, their outputs 1 + 1 + 4, inputs of ReLUs 1 + 1 + 4.
        assert_eq!(plain_block(&block, 1).kept / 4, 4 * 18);
        let again = plain_block(&block, 1).recomputed(&block, 1);
        assert_eq!(again.kept / 4, 4 * 4);
        // Upsampling: of 4 pixels, the reduced map three times and the shortcut once; of 16 three maps of 1 and of 4.
        let upsampling = BlockShape {
            size_out: 4,
            projects: true,
            ..block
        };
        let kept = plain_block(&upsampling, 1).kept / 4;
        assert_eq!(kept, 4 * (3 + 4) + 16 * 3 * 5);
    }
}
