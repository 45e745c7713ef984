//! What a step keeps on its device, told before there is one.

use std::collections::HashMap;

use resnet_blocks::Precision;
use vae_core::{BlockShape, VaeConfig};

/// Bytes that the step of a batch keeps on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepBytes {
    /// Weights, gradients and both moments, the average of the weights, in bfloat16 copies of both, and the sums of shards.
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

/// What the memory of a step depends on besides the model and the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepForm {
    /// Of maps and products.
    pub precision: Precision,
    /// Whether an average of the weights is kept.
    pub has_average: bool,
    /// Whether backward computes every block again.
    pub is_recomputed: bool,
    /// Vectors with what shards contribute that are there at the same time; none of a batch that is computed at once.
    pub sums: usize,
}

impl StepForm {
    /// The vectors of a tree in which so many shards of so many micro-batches each are added up: the left halves of its levels and the newest one,
    /// and one for what other ranks send.
    pub fn sums_of(shards: usize, micro_batches: usize) -> usize {
        let levels = |summands: usize| summands.next_power_of_two().ilog2() as usize;
        match (shards, micro_batches) {
            (0 | 1, 0 | 1) => 0,
            _ => levels(shards) + levels(micro_batches) + 2,
        }
    }
}

/// The bytes of a step, by going through it with the sizes of its maps alone. Buffers with less than a value for each pixel are left out.
///
/// A buffer serves again for maps of exactly its size, as in the step itself.
pub fn step_bytes(config: &VaeConfig, batch: usize, form: StepForm) -> StepBytes {
    let (value, narrow) = match form.precision {
        Precision::F32 => (4, 0),
        Precision::Bf16 => (2, 2),
    };
    let average = if form.has_average { 4 + narrow } else { 0 };
    let each = 16 + narrow + average + 4 * form.sums as u64;
    let mut pool = Pool::default();
    let [encoder, decoder] = config.block_shapes();
    let blocks: Vec<BlockShape> = encoder.into_iter().chain(decoder).collect();
    let mut kept: Vec<Kept> = Vec::new();
    for block in &blocks {
        let mut of_block = Kept::forward(block, batch, value, &mut pool);
        if form.is_recomputed {
            of_block.keep_output(&mut pool);
        }
        kept.push(of_block);
    }
    let of_forward = kept.iter().map(|kept| kept.all.iter().sum::<u64>()).sum();
    // The parameters of the pixels' distributions, and their gradient.
    let positions = batch * config.image_size * config.image_size;
    let pixels = (positions * config.image_channels) as u64;
    let likelihood = config.likelihood;
    let parameters = (positions * likelihood.decoder_channels(config.image_channels)) as u64;
    let output = pool.take(4 * parameters);
    let d_output = pool.take(value * parameters);
    if likelihood.has_global_scale() {
        let d_scales = pool.take(4 * pixels);
        pool.give(d_scales);
    }
    pool.give(output);
    let last = blocks.last().expect("a model has blocks");
    let mut gradient = pool.take(value * (batch * last.pixels_out() * last.channels_out) as u64);
    pool.give(d_output);
    for (index, (block, mut kept)) in blocks.iter().zip(kept).enumerate().rev() {
        if form.is_recomputed {
            // The output that was kept is the next block's input, which is done.
            kept.all.drain(..).for_each(|bytes| pool.give(bytes));
            kept = Kept::forward(block, batch, value, &mut pool);
        }
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

    /// Lets go of all but the block's output, which is the last.
    fn keep_output(&mut self, pool: &mut Pool) {
        let output = self.all.pop();
        self.all.drain(..).for_each(|bytes| pool.give(bytes));
        self.all.extend(output);
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
pub(crate) fn rows(block: &BlockShape, batch: usize) -> (u64, u64) {
    (
        (batch * block.pixels_low()) as u64,
        (batch * block.pixels_out()) as u64,
    )
}

pub(crate) fn is_enlarging(block: &BlockShape) -> bool {
    block.size_out > block.size_in
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::Depth;

    fn form(precision: Precision) -> StepForm {
        StepForm {
            precision,
            has_average: false,
            is_recomputed: false,
            sums: 0,
        }
    }

    /// Counted by a driver that stands in for NVIDIA's: `tests/kernels/tests/nvrtc` prints what a step of full width allocates.
    #[test]
    fn a_step_of_full_width_takes_what_was_counted() {
        let config = VaeConfig::preset(Depth::Depth28);
        let bytes = step_bytes(&config, 128, form(Precision::Bf16));
        let counted = 4_066_100_000.0;
        let share = bytes.total() as f64 / counted;
        assert!((0.98..1.02).contains(&share), "{bytes:?}: {share}");
        assert_eq!(bytes.parameters, 18 * config.num_params());
    }

    #[test]
    fn what_is_kept_grows_with_the_batch_and_with_the_values() {
        let config = VaeConfig::preset(Depth::Depth40);
        let kept = |batch, precision| step_bytes(&config, batch, form(precision)).kept;
        // Packed weights are kept too, which do not grow.
        assert!(kept(16, Precision::F32) < 2 * kept(8, Precision::F32));
        assert!(kept(16, Precision::F32) > 19 * kept(8, Precision::F32) / 10);
        assert_eq!(kept(8, Precision::F32), 2 * kept(8, Precision::Bf16));
    }

    #[test]
    fn recomputation_keeps_inputs_alone_and_an_average_costs_its_copies() {
        let config = VaeConfig::preset(Depth::Depth100);
        let usual = form(Precision::Bf16);
        let of = |form| step_bytes(&config, 32, form);
        let recomputed = of(StepForm {
            is_recomputed: true,
            ..usual
        });
        // The output of each block, which is the next one's input.
        let blocks = config.block_shapes().into_iter().flatten();
        let outputs = blocks.map(|block| 2 * 32 * block.pixels_out() * block.channels_out);
        assert_eq!(recomputed.kept, outputs.sum::<usize>() as u64);
        assert!(2 * recomputed.kept < of(usual).kept);
        assert!(recomputed.total() < of(usual).total());
        let averaged = of(StepForm {
            has_average: true,
            ..usual
        });
        assert_eq!(
            averaged.parameters - of(usual).parameters,
            6 * config.num_params()
        );
        assert_eq!(averaged.kept, of(usual).kept);
    }
}
