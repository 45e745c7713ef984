//! What memory a training step needs, from the sizes of the model alone.
//!
//! The peak is reached in the backward pass of a block, while the blocks before it still hold what they kept. Every term
//! below is a tensor with a name; only what the program itself takes and what the allocator holds besides were measured.

use serde::Serialize;
use vae_core::{BlockShape, Likelihood, Precision, VaeConfig};

use run_files::settings::{DeviceChoice, Settings};

/// A float32 number.
const F32: u64 = 4;
const MIB: u64 = 1 << 20;

/// Resident memory of the program and the embedded sample, measured with a model of one channel a stage (43.6 MiB).
const PROGRAM: u64 = 44 * MIB;
/// Partly used pages of the allocator, one a size class and thread: what was measured beyond the tensors at the smallest
/// batches; and as much twice again where freed pages stay.
const PAGES: u64 = 16 * MIB;
const FREED_PAGES: u64 = 32 * MIB;
/// CUDA's context and loaded kernels. An assumption: nothing has been measured on a GPU.
const CUDA_CONTEXT: u64 = 512 * MIB;
/// Images at a time in evaluation.
const EVALUATION_BATCH: u64 = 100;
/// Images of CIFAR-10, a label and 3,072 bytes each.
pub(crate) const CIFAR_BYTES: u64 = 60_000 * 3_073;

/// What the blocks keep for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The float32 blocks on flex.
    Fast,
    /// Burn's own layers.
    Plain(Precision),
}

/// Where a step runs, as far as memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The host, with this program's allocator.
    Host {
        /// It keeps what was freed for longer than a step, as it does by default.
        keeps_freed: bool,
    },
    Cuda,
}

/// The peak memory of a training step, part by part, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StepMemory {
    /// Weights, gradients and both moments: four float32 numbers a parameter; one more where micro-batches are summed, and one
    /// for the moving average.
    pub(crate) parameters: u64,
    /// What the blocks keep for the backward pass, where that is most.
    pub(crate) activations: u64,
    /// Gradients and sums of the block whose backward pass is the largest.
    pub(crate) in_flight: u64,
    /// The program, or CUDA's context.
    pub(crate) program: u64,
    /// What the allocator holds beyond the tensors.
    pub(crate) allocator: u64,
}

impl StepMemory {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        let parts = [
            self.parameters,
            self.activations,
            self.in_flight,
            self.program,
            self.allocator,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// The form and the place that settings lead to.
pub(crate) fn form_and_place(settings: &Settings) -> (Form, Place) {
    let is_fast = settings.device.main() == DeviceChoice::Flex
        && settings.precision == run_files::settings::Precision::F32;
    let form = if is_fast {
        Form::Fast
    } else {
        Form::Plain(match settings.precision {
            run_files::settings::Precision::F32 => Precision::F32,
            run_files::settings::Precision::Bf16 => Precision::Bf16,
        })
    };
    let place = match settings.device.main() {
        DeviceChoice::Cuda(_) | DeviceChoice::Vulkan(_) => Place::Cuda,
        _ => Place::Host {
            keeps_freed: keeps_freed(std::env::var("MIMALLOC_PURGE_DELAY").ok().as_deref()),
        },
    };
    (form, place)
}

/// Whether freed memory stays for longer than a step; `delay` is in milliseconds, mimalloc's default 1000.
fn keeps_freed(delay: Option<&str>) -> bool {
    delay
        .and_then(|delay| delay.parse::<i64>().ok())
        .is_none_or(|delay| !(0..1000).contains(&delay))
}

/// What a step is made of, besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepSize {
    /// Images.
    pub(crate) batch: usize,
    /// Images at a time at most.
    pub(crate) micro_batch: Option<usize>,
    /// Whether blocks are computed again in the backward pass.
    pub(crate) recomputes: bool,
    /// Whether a moving average of the weights is kept.
    pub(crate) has_average: bool,
}

impl StepSize {
    /// Of a run with these settings, over `batch` images.
    pub(crate) fn of(settings: &Settings, batch: usize) -> Self {
        Self {
            batch,
            micro_batch: settings.micro_batch_size,
            recomputes: settings.gradient_checkpointing,
            has_average: settings.ema.is_some(),
        }
    }
}

/// The peak memory of a step.
pub(crate) fn predict(
    config: &VaeConfig,
    (form, place): (Form, Place),
    size: StepSize,
) -> StepMemory {
    let parts = crate::step::batch_parts::micro_batches(size.batch, size.micro_batch);
    let images = parts[0].len() as u64;
    let blocks: Vec<BlockShape> = config.block_shapes().into_iter().flatten().collect();
    let parameters = config.num_params();
    let copies = 4 + u64::from(parts.len() > 1) + u64::from(size.has_average);

    let needs = blocks.iter().map(|block| {
        let need = match form {
            Form::Fast => fast_block(block, images),
            Form::Plain(precision) => plain_block(block, images, precision),
        };
        if size.recomputes {
            need.recomputed(block, images)
        } else {
            need
        }
    });
    let (mut kept, mut peak) = (0, (0, 0));
    for need in needs {
        kept += need.kept;
        // The blocks before this one are held, the blocks after it have been freed.
        if kept + need.backward > peak.0 + peak.1 {
            peak = (kept, need.backward);
        }
    }
    // Before the last block's backward pass comes that of the likelihood, while every block holds what it kept.
    let of_likelihood = likelihood_bytes(config, place, images);
    if kept + of_likelihood > peak.0 + peak.1 {
        peak = (kept, of_likelihood);
    }
    let (activations, in_flight) = peak;
    let parameters = copies * F32 * parameters;
    let tensors = parameters + activations + in_flight;
    let (program, allocator) = match place {
        // Blocks of an eighth more than asked for at most, half of that on average.
        Place::Host { keeps_freed: false } => (PROGRAM, PAGES + tensors / 16),
        // What was freed serves again only where it fits: measured, about an eighth more.
        Place::Host { keeps_freed: true } => {
            (PROGRAM, PAGES + FREED_PAGES + tensors / 16 + tensors / 8)
        }
        // A pool in slices; an assumption too.
        Place::Cuda => (CUDA_CONTEXT, tensors / 8),
    };
    StepMemory {
        parameters,
        activations,
        in_flight,
        program,
        allocator,
    }
}

/// What evaluation holds at most: two maps of a block and its narrow ones, of a hundred images.
pub(crate) fn evaluation_bytes(config: &VaeConfig) -> u64 {
    let blocks = config.block_shapes().into_iter().flatten();
    let bytes = blocks.map(|block| {
        let values = block.pixels_in() * block.channels_in
            + block.pixels_out() * (2 * block.width + 2 * block.channels_out);
        F32 * EVALUATION_BATCH * values as u64
    });
    bytes.max().unwrap_or(0)
}

/// What a block needs, in bytes.
struct BlockNeed {
    /// From its forward to its backward pass.
    kept: u64,
    /// In its backward pass, besides.
    backward: u64,
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

/// What the likelihood's backward pass holds, beside what the blocks kept.
fn likelihood_bytes(config: &VaeConfig, place: Place, images: u64) -> u64 {
    let pixels = (config.image_size * config.image_size) as u64;
    let map = F32 * images * pixels * config.likelihood.map_channels(config.image_channels) as u64;
    let is_mixture = matches!(config.likelihood, Likelihood::LogisticMixture { .. });
    match place {
        // One pass on flex: the map, and its gradient, which is scaled in place.
        Place::Host { .. } if is_mixture => 2 * map,
        // By Burn's own operations a value of the map appears in some thirty intermediate results. An assumption: nothing has been
        // measured on a GPU.
        _ if is_mixture => 30 * map,
        _ => 6 * map,
    }
}

/// Parts that the blocks on flex divide a batch into, each of which has sums of its own.
fn flex_parts(images: u64, pixels: u64) -> u64 {
    let images_per_part = (1024 / pixels.max(1)).min(images.div_ceil(8)).max(1);
    images.div_ceil(images_per_part)
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
    // sums of its parts, and the last one the gradient of a strided input.
    let parts = F32 * flex_parts(images, output);
    let gradients = map(output, channels_out) + map(output, width) + around(map(low, channels_in));
    let tail = parts * (width * channels_out + around(channels_in * channels_out));
    let spatial = map(low, width) + parts * 9 * width * width;
    let spread = if is_strided {
        map(input, channels_in)
    } else {
        0
    };
    let reduce = map(low, width) + (parts * channels_in * width).max(spread);
    BlockNeed {
        kept: maps + weights,
        backward: gradients + tail.max(spatial).max(reduce),
    }
}

/// A bottleneck of Burn's own operations: a convolution keeps its input, a norm its own (the convolution's output), a ReLU its own
/// (the norm's output, or the sum at the end of the block). An upsampling block keeps what comes before its 3x3 convolution,
/// and its shortcut, at the lower resolution.
fn plain_block(block: &BlockShape, images: u64, precision: Precision) -> BlockNeed {
    let map =
        |pixels: usize, channels: usize, bytes: u64| bytes * images * (pixels * channels) as u64;
    let (low, output) = (block.pixels_low(), block.pixels_out());
    let (width, channels_out) = (block.width, block.channels_out);
    let around = if block.projects { channels_out } else { 0 };
    // Operands are kept in the type of the product.
    let operand = match precision {
        Precision::F32 => F32,
        Precision::Bf16 => 2,
    };
    // Of the reduced map and the shortcut; of the other two.
    let before = map(low, 2 * width + around, F32) + map(low, width, operand);
    let after = width + channels_out;
    BlockNeed {
        kept: before + map(output, 2 * after, F32) + map(output, after, operand),
        // In the last norm: the gradient, the normalised input, their product, and both brought into the order of a sum a
        // channel; the ReLU's and the norm's own kept inputs are free by then.
        backward: 3 * map(output, channels_out, F32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::Depth;

    const HOST: Place = Place::Host { keeps_freed: false };

    fn config(depth: Depth, width: f64) -> VaeConfig {
        VaeConfig::preset(depth)
            .with_width_multiplier(width)
            .with_latent_dim(64)
    }

    #[test]
    fn the_prediction_grows_with_the_batch_and_shrinks_with_micro_batches() {
        let config = config(Depth::Depth40, 0.125);
        let size = |batch, micro_batch| StepSize {
            batch,
            micro_batch,
            recomputes: false,
            has_average: false,
        };
        let of = |size| predict(&config, (Form::Fast, HOST), size);
        let total = |batch, micro| of(size(batch, micro)).total();
        assert!(total(25, None) < total(50, None));
        assert_eq!(total(50, None), total(50, Some(50)));
        assert!(total(50, Some(25)) < total(50, None));
        // Summing gradients takes one more number a parameter.
        let parameters = F32 * config.num_params();
        let more = of(size(50, Some(25))).parameters - of(size(25, None)).parameters;
        assert_eq!(more, parameters);
        // And so does their average.
        let averaged = StepSize {
            has_average: true,
            ..size(25, None)
        };
        assert_eq!(
            of(averaged).parameters - of(size(25, None)).parameters,
            parameters
        );
    }

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
        let kept = |precision| plain_block(&block, 1, precision).kept / 4;
        // Per pixel: inputs of convolutions 4 + 1 + 1, their outputs 1 + 1 + 4, inputs of ReLUs 1 + 1 + 4.
        assert_eq!(kept(Precision::F32), 4 * 18);
        assert_eq!(kept(Precision::Bf16), 2 * 6 + 4 * 12);
        let again = plain_block(&block, 1, Precision::F32).recomputed(&block, 1);
        assert_eq!(again.kept / 4, 4 * 4);
        // Upsampling: of 4 pixels, the reduced map three times and the shortcut once; of 16 three maps of 1 and of 4.
        let upsampling = BlockShape {
            size_out: 4,
            projects: true,
            ..block
        };
        let kept = plain_block(&upsampling, 1, Precision::F32).kept / 4;
        assert_eq!(kept, 4 * (3 + 4) + 16 * 3 * 5);
    }

    #[test]
    fn the_allocator_s_delay_is_read_as_it_reads_it() {
        for (delay, keeps) in [
            (None, true),
            (Some("10"), false),
            (Some("10000"), true),
            (Some("-1"), true),
        ] {
            assert_eq!(keeps_freed(delay), keeps, "{delay:?}");
        }
    }
}
