//! What the kernels of a step read and write, told before there is one: with a card's bandwidth, the time that a step takes at least.

use resnet_blocks::Precision;
use vae_core::{BlockShape, VaeConfig};

use crate::memory::{is_enlarging, rows};

/// Bytes that the kernels of a training step over `batch` images read and write: every operand once a kernel, however often it is read within, and
/// nothing kept in a cache from one kernel to the next.
///
/// ```text
/// all blocks, the output layer and its likelihood, and 32 (bfloat16: 34) for each parameter: one read of its gradient for the norm, four reads and
/// three writes by Adam, and the copy in bfloat16
/// ```
///
/// Vectors, dense layers and the batch itself are left out, and so are an average of the weights, shards, and blocks that are computed again.
pub fn bytes_moved(config: &VaeConfig, batch: usize, precision: Precision) -> u64 {
    let (value, narrow) = match precision {
        Precision::F32 => (4, 0),
        Precision::Bf16 => (2, 2),
    };
    let [encoder, decoder] = config.block_shapes();
    let blocks: Vec<BlockShape> = encoder.into_iter().chain(decoder).collect();
    let of_blocks = blocks.iter().enumerate().map(|(index, block)| {
        let (maps, weights) = values_moved(block, batch, index > 0);
        value * maps + weights.bytes(value)
    });
    let last = blocks.last().expect("a model has blocks");
    let positions = (batch * last.pixels_out()) as u64;
    let parameters = positions * config.likelihood.decoder_channels(config.image_channels) as u64;
    let pixels = positions * config.image_channels as u64;
    let wide = positions * last.channels_out as u64;
    // The product, the likelihood, and the products of both gradients: by the weights and by the map.
    let output = value * wide
        + 4 * parameters
        + 4 * (parameters + pixels)
        + value * parameters
        + value * (wide + parameters)
        + value * (parameters + wide);
    of_blocks.sum::<u64>() + output + (32 + narrow) * config.num_params()
}

/// Values of weights that a block's kernels read or write, by their type.
#[derive(Clone, Copy, Default)]
struct Weights {
    /// In the maps' type.
    of_maps: u64,
    /// In float32: gradients, and what is packed for the 3x3 convolution.
    float32: u64,
}

impl Weights {
    fn bytes(self, value: u64) -> u64 {
        value * self.of_maps + 4 * self.float32
    }
}

/// Values of maps that a block's kernels read and write, forward and backward, and those of its weights.
fn values_moved(block: &BlockShape, batch: usize, is_input_wanted: bool) -> (u64, Weights) {
    let (low, high) = rows(block, batch);
    let whole = (batch * block.pixels_in() * block.channels_in) as u64;
    let [width, channels_in, channels_out] =
        [block.width, block.channels_in, block.channels_out].map(|channels| channels as u64);
    let (input, wide) = (low * channels_in, high * channels_out);
    // Around the 3x3 convolution: before it, behind it, and its neighbourhoods.
    let (before, behind, gathered) = (low * width, high * width, 9 * low * width);
    let around = low * channels_out;
    let (is_strided, is_identity) = (
        block.size_out < block.size_in,
        !block.projects && whole == wide,
    );
    let packed = 9 * width * width;
    let mut maps = 0;
    let mut weights = Weights::default();

    // Forward.
    if is_strided {
        maps += 2 * input;
    }
    maps += input + before; // reduce
    weights.of_maps += channels_in * width;
    maps += before + 2 * before; // its moments, norm and ReLU
    weights.float32 += packed;
    weights.of_maps += packed;
    if is_enlarging(block) {
        maps += before + gathered; // the taps' product
        maps += gathered + behind; // their sum
        weights.of_maps += 2 * packed;
    } else {
        maps += before + gathered; // the neighbourhoods
        maps += gathered + behind; // their product
        weights.of_maps += packed;
    }
    maps += behind + 2 * behind; // moments, norm and ReLU
    maps += behind + wide; // expand
    weights.of_maps += width * channels_out;
    maps += wide; // its moments
    if block.projects {
        maps += input + around + around; // the shortcut's product and moments
        weights.of_maps += channels_in * channels_out;
    }
    let added = match (block.projects, is_identity) {
        (true, _) => around,
        (false, true) => wide,
        (false, false) => 0,
    };
    maps += wide + added + wide; // norm, sum and ReLU

    // Backward: the sums of the norm, and its gradient, both with the mask of the output.
    maps += 3 * wide;
    maps += 3 * wide + wide;
    if is_identity {
        maps += wide; // what goes around
    }
    maps += behind + wide; // by expand's weights
    weights.float32 += width * channels_out;
    maps += wide + behind; // by its input
    weights.of_maps += width * channels_out;
    maps += 2 * behind + 3 * behind; // the second norm
    maps += behind + gathered; // the neighbourhoods of its gradient
    if !is_enlarging(block) {
        weights.float32 += packed;
        weights.of_maps += packed;
    }
    maps += gathered + before; // by the 3x3 weights
    maps += gathered + before; // by their input
    weights.of_maps += packed;
    weights.float32 += 3 * packed; // written, and put in their order
    maps += 2 * before + 3 * before; // the first norm
    if is_enlarging(block) {
        maps += behind + before; // sums of what lies between the values
        weights.of_maps += packed;
    }
    maps += input + before; // by reduce's weights
    weights.float32 += channels_in * width;
    if block.projects {
        maps += 2 * around + around; // the positions that the shortcut has
        maps += 2 * around + 3 * around; // its norm
        maps += input + around; // by its weights
        weights.float32 += channels_in * channels_out;
    }
    if is_input_wanted {
        maps += before + input; // by reduce's input
        weights.of_maps += channels_in * width;
        if is_identity {
            maps += input; // on what went around
        }
        if block.projects {
            maps += around + 2 * input; // and by the shortcut's
            weights.of_maps += channels_in * channels_out;
        }
        if is_strided {
            maps += input + whole;
        }
    }
    (maps, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::Depth;

    const IDENTITY: BlockShape = BlockShape {
        channels_in: 32,
        width: 8,
        channels_out: 32,
        size_in: 4,
        size_out: 4,
        projects: false,
    };

    /// Counted by hand, kernel by kernel, from the launches of a block: wide maps are those of its input and output.
    #[test]
    fn an_identity_block_moves_19_wide_maps_and_72_narrow_ones() {
        let (maps, weights) = values_moved(&IDENTITY, 3, true);
        let positions = 3 * 4 * 4;
        // Forward: x once; expand's product written, read for its moments and by the tail, which reads x and writes the output. Backward: three
        // maps for the sums and again for the gradient, which is written with what goes around, and read by two products; x once more; and the
        // gradient of x is read and written.
        let wide = (1 + 1 + 1 + 2 + 1) + (3 + 3 + 2 + 2 + 1 + 2);
        // Forward: product, moments, norm, neighbourhoods (9), their product, moments, norm, expand. Backward, as the kernels come.
        let forward = 1 + 1 + 2 + (1 + 9) + (9 + 1) + 1 + 2 + 1;
        let backward = 1 + 1 + (2 + 3) + (1 + 9) + (9 + 1) + (9 + 1) + (2 + 3) + 1 + 1;
        assert_eq!((wide, forward + backward), (19, 72));
        assert_eq!(maps, positions * (wide * 32 + (forward + backward) * 8));
        // Two 1x1 weights of 256 values: read forward, read for the gradient of the input; their gradients written in float32.
        assert_eq!(weights.of_maps, 4 * 256 + 4 * 576);
        assert_eq!(weights.float32, 2 * 256 + 5 * 576);
    }

    #[test]
    fn bfloat16_moves_half_of_the_maps_and_a_batch_its_share() {
        let config = VaeConfig::preset(Depth::Depth28);
        let of = |batch, precision| bytes_moved(&config, batch, precision);
        let without_batch = of(0, Precision::Bf16);
        let of_images = |batch| of(batch, Precision::Bf16) - without_batch;
        assert_eq!(of_images(128), 128 * of_images(1));
        let wide = of(128, Precision::F32) - of(0, Precision::F32);
        let share = of_images(128) as f64 / wide as f64;
        assert!((0.5..0.51).contains(&share), "{share}");
        println!(
            "depth 28, batch 128, bfloat16: {:.2} GB a step",
            of(128, Precision::Bf16) as f64 / 1e9
        );
    }
}
