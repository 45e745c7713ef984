//! What a step keeps on its device, told before there is one.

use std::collections::HashMap;

use resnet_blocks::Precision;
use vae_core::{BlockShape, VaeConfig};

/// Bytes that the step of a batch keeps on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepBytes {
    /// Weights, gradients and both moments, and in bfloat16 a copy of the weights.
    pub parameters: u64,
    /// Maps that forward keeps for backward.
    pub kept: u64,
    /// All other maps: those that live within a block, and the gradients.
    pub in_flight: u64,
}

impl StepBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.parameters + self.kept + self.in_flight
    }
}

/// The bytes of a step, by going through it with the sizes of its maps alone. Buffers with less than a value for each pixel are left out.
///
/// A buffer serves again for maps of exactly its size, as in the step itself.
pub fn step_bytes(config: &VaeConfig, batch: usize, precision: Precision) -> StepBytes {
    let (value, each) = match precision {
        Precision::F32 => (4, 16),
        Precision::Bf16 => (2, 18),
    };
    let mut pool = Pool::default();
    let [encoder, decoder] = config.block_shapes();
    let blocks: Vec<BlockShape> = encoder.into_iter().chain(decoder).collect();
    let kept: Vec<Kept> = blocks
        .iter()
        .map(|block| Kept::forward(block, batch, value, &mut pool))
        .collect();
    let of_forward = kept.iter().map(|kept| kept.all.iter().sum::<u64>()).sum();
    // The parameters of the pixels' distributions, and their gradient.
    let positions = batch * config.image_size * config.image_size;
    let pixels = (positions * config.image_channels) as u64;
    let parameters = (positions * config.likelihood.map_channels(config.image_channels)) as u64;
    let output = pool.take(4 * parameters);
    let d_output = pool.take(value * parameters);
    pool.give(output);
    let last = blocks.last().expect("a model has blocks");
    let mut gradient = pool.take(value * (batch * last.pixels_out() * last.channels_out) as u64);
    pool.give(d_output);
    for (index, (block, kept)) in blocks.iter().zip(kept).enumerate().rev() {
        let next = kept.backward(block, batch, value, index > 0, &mut pool);
        pool.give(gradient);
        gradient = next;
    }
    StepBytes {
        parameters: each * config.num_params(),
        kept: of_forward,
        // The batch itself too, in the maps' type and in float32.
        in_flight: pool.bytes - of_forward + (value + 4) * pixels,
    }
}

/// Buffers by their size, as the step's workspace has them.
#[derive(Default)]
struct Pool {
    free: HashMap<u64, usize>,
    bytes: u64,
}

impl Pool {
    fn take(&mut self, bytes: u64) -> u64 {
        let free = self.free.entry(bytes).or_default();
        if *free > 0 {
            *free -= 1;
        } else {
            self.bytes += bytes;
        }
        bytes
    }

    fn give(&mut self, bytes: u64) {
        if bytes > 0 {
            *self.free.entry(bytes).or_default() += 1;
        }
    }
}

/// The sizes of the maps that a block keeps.
struct Kept {
    /// Behind the second norm: its gradient takes its place, and is gone before the shortcut's backward pass.
    filtered: u64,
    all: Vec<u64>,
}

impl Kept {
    fn forward(block: &BlockShape, batch: usize, value: u64, pool: &mut Pool) -> Self {
        let (low, high) = rows(block, batch);
        let (width, out) = (block.width as u64, block.channels_out as u64);
        let mut all = Vec::new();
        let mut keep = |pool: &mut Pool, bytes: u64| all.push(pool.take(bytes));
        if block.size_out < block.size_in {
            keep(pool, value * low * block.channels_in as u64);
        }
        // The first product, and what is behind its norm.
        keep(pool, value * low * width);
        keep(pool, value * low * width);
        let packed = value * 9 * width * width;
        let neighbours = value * low * 9 * width;
        if is_enlarging(block) {
            keep(pool, packed);
            let taps = pool.take(neighbours);
            keep(pool, value * high * width);
            pool.give(taps);
        } else {
            let packed = pool.take(packed);
            let neighbours = pool.take(neighbours);
            keep(pool, value * high * width);
            pool.give(packed);
            pool.give(neighbours);
        }
        let filtered = value * high * width;
        keep(pool, filtered);
        keep(pool, value * high * out);
        if block.projects {
            keep(pool, value * low * out);
        }
        keep(pool, value * high * out);
        Self { filtered, all }
    }

    /// The size of the gradient of the block's input; 0 where it is not wanted.
    fn backward(
        self,
        block: &BlockShape,
        batch: usize,
        value: u64,
        is_input_wanted: bool,
        pool: &mut Pool,
    ) -> u64 {
        let (low, high) = rows(block, batch);
        let (width, out) = (block.width as u64, block.channels_out as u64);
        let passed = (!block.projects && block.size_in == block.size_out)
            .then(|| pool.take(value * high * out));
        pool.give(self.filtered);
        let neighbours = pool.take(value * low * 9 * width);
        let packed = (!is_enlarging(block)).then(|| pool.take(value * 9 * width * width));
        let d_packed = pool.take(4 * 9 * width * width);
        pool.give(neighbours);
        if block.projects {
            let sampled = pool.take(value * low * out);
            pool.give(sampled);
        }
        let mut input = 0;
        if is_input_wanted {
            let channels_in = block.channels_in as u64;
            input = passed.unwrap_or_else(|| pool.take(value * low * channels_in));
            if block.size_out < block.size_in {
                let spread = pool.take(value * (batch * block.pixels_in()) as u64 * channels_in);
                pool.give(input);
                input = spread;
            }
        }
        packed.into_iter().for_each(|packed| pool.give(packed));
        pool.give(d_packed);
        let mut all = self.all;
        let filtered = all.iter().position(|bytes| *bytes == self.filtered);
        all.remove(filtered.expect("among what is kept"));
        all.into_iter().for_each(|bytes| pool.give(bytes));
        input
    }
}

/// Rows of the block's narrow maps before its 3x3 convolution, and behind it.
fn rows(block: &BlockShape, batch: usize) -> (u64, u64) {
    (
        (batch * block.pixels_low()) as u64,
        (batch * block.pixels_out()) as u64,
    )
}

fn is_enlarging(block: &BlockShape) -> bool {
    block.size_out > block.size_in
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::Depth;

    /// Counted by a driver that stands in for NVIDIA's: `tests/kernels/tests/nvrtc.rs` prints what a step of full width allocates.
    #[test]
    fn a_step_of_full_width_takes_what_was_counted() {
        let config = VaeConfig::preset(Depth::Depth28);
        let bytes = step_bytes(&config, 128, Precision::Bf16);
        let counted = 4_066_100_000.0;
        let share = bytes.total() as f64 / counted;
        assert!((0.98..1.02).contains(&share), "{bytes:?}: {share}");
        assert_eq!(bytes.parameters, 18 * config.num_params());
    }

    #[test]
    fn what_is_kept_grows_with_the_batch_and_with_the_values() {
        let config = VaeConfig::preset(Depth::Depth40);
        let kept = |batch, precision| step_bytes(&config, batch, precision).kept;
        // Packed weights are kept too, which do not grow.
        assert!(kept(16, Precision::F32) < 2 * kept(8, Precision::F32));
        assert!(kept(16, Precision::F32) > 19 * kept(8, Precision::F32) / 10);
        assert_eq!(kept(8, Precision::F32), 2 * kept(8, Precision::Bf16));
    }
}
