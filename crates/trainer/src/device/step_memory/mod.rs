//! What memory a training step needs, from the sizes of the model alone.
//!
//! The peak is reached in the backward pass of a block, while the blocks before it still hold what they kept. Every term
//! below is a tensor with a name; only what the program itself takes and what the allocator holds besides were measured.

use serde::Serialize;
use vae_core::{Likelihood, VaeConfig};
use vae_device_step::StepForm;

use crate::experiment::model::ModelConfig;

mod conditions;
mod resnet;

use conditions::F32;
pub(crate) use conditions::{Form, Place, StepSize, form_and_place};
use resnet::{BlockNeed, block_needs};

const MIB: u64 = 1 << 20;
/// Images at a time in evaluation.
const EVALUATION_BATCH: u64 = 100;
/// Images at a time in the pictures of a run on a GPU.
const PICTURE_BATCH: u64 = 10;
/// How many times the tensors of a picture the pools of CubeCL hold, as a driver without a card was asked for.
const POOLS: u64 = 3;

/// Resident memory of the program and the embedded sample, measured with a model of one channel a stage (43.6 MiB).
const PROGRAM: u64 = 44 * MIB;
/// Partly used pages of the allocator, one a size class and thread: what was measured beyond the tensors at the smallest
/// batches; and as much twice again where freed pages stay.
const PAGES: u64 = 16 * MIB;
const FREED_PAGES: u64 = 32 * MIB;
/// CUDA's context and loaded kernels. An assumption: nothing has been measured on a GPU.
const CUDA_CONTEXT: u64 = 512 * MIB;
/// What cuBLASLt may take for itself.
const CUBLASLT_WORKSPACE: u64 = 32 * MIB;
/// Images of CIFAR-10, a label and 3,072 bytes each.
pub(crate) const CIFAR_BYTES: u64 = 60_000 * 3_073;

/// The peak memory of a training step, kind by kind, in bytes.
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
    /// CIFAR-10's images, where they lie on the device.
    pub(crate) images: u64,
    /// What stays beside the maps of a device's own step: the weights of the best epoch, and the pools of Burn's operations, which draw pictures.
    pub(crate) pictures: u64,
}

impl StepMemory {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        let kinds = [
            self.parameters,
            self.activations,
            self.in_flight,
            self.program,
            self.allocator,
            self.images,
            self.pictures,
        ];
        kinds.into_iter().fold(0, u64::saturating_add)
    }
}

/// The peak memory of a step.
pub(crate) fn predict(
    config: &ModelConfig,
    (form, place): (Form, Place),
    size: StepSize,
) -> StepMemory {
    let passes = crate::ranks::batch_division::micro_batches(size.batch, size.micro_batch);
    let resnet = config.as_resnet();
    let images_on_device = match place {
        Place::Gpu { has_images: true } => CIFAR_BYTES,
        _ => 0,
    };
    if let (Form::OnDevice(precision), Place::Gpu { .. }, Some(resnet)) = (form, place, resnet) {
        let form = StepForm {
            precision,
            has_average: size.has_average,
            is_recomputed: size.recomputes,
            sums: StepForm::sums_of(size.shards, passes.len()),
        };
        return StepMemory {
            images: images_on_device,
            ..on_device(resnet, passes[0].len(), form)
        };
    }
    let images = passes[0].len() as u64;
    let parameters = config.num_params();
    let copies = 4 + u64::from(passes.len() > 1) + u64::from(size.has_average);

    let (mut kept, mut peak) = (0, (0, 0));
    for need in needs(config, form, images, size.recomputes) {
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
        Place::Gpu { .. } => (CUDA_CONTEXT, tensors / 8),
    };
    StepMemory {
        parameters,
        activations,
        in_flight,
        program,
        allocator,
        images: images_on_device,
        pictures: 0,
    }
}

/// What each block needs in a step over `images`. A model whose blocks are not known is one block that keeps what all its layers return, and
/// needs as much again.
fn needs(config: &ModelConfig, form: Form, images: u64, recomputes: bool) -> Vec<BlockNeed> {
    match config.as_resnet() {
        Some(config) => block_needs(config, form, images, recomputes).collect(),
        None => {
            let activations = F32 * images * config.cost().activations;
            vec![BlockNeed {
                kept: activations,
                backward: activations,
            }]
        }
    }
}

/// What evaluation by Burn's operations holds at most, in bytes.
pub(crate) fn evaluation_bytes(config: &ModelConfig) -> u64 {
    match config.as_resnet() {
        Some(config) => resnet::evaluation_bytes(config, EVALUATION_BATCH),
        None => F32 * EVALUATION_BATCH * config.cost().activations,
    }
}

/// What the likelihood's backward pass holds, beside what the blocks kept.
fn likelihood_bytes(config: &ModelConfig, place: Place, images: u64) -> u64 {
    let likelihood = config.likelihood();
    let [channels, height, width] = config.image_shape();
    let map = F32 * images * (height * width * likelihood.map_channels(channels)) as u64;
    let is_mixture = matches!(likelihood, Likelihood::LogisticMixture { .. });
    let is_one_pass_on_flex = matches!(
        likelihood,
        Likelihood::RenormalisedBernoulli
            | Likelihood::Logistic { .. }
            | Likelihood::LogisticMixture { .. }
    );
    match place {
        // The map, and its gradient, which is scaled in place.
        Place::Host { .. } if is_one_pass_on_flex => 2 * map,
        // By Burn's own operations a value of the map appears in some thirty intermediate results. An assumption: nothing has been
        // measured on a GPU.
        _ if is_mixture => 30 * map,
        _ => 6 * map,
    }
}

/// A step whose maps, and those of its graph, are buffers of its own: nothing is freed between steps, and the graph has no others. Without CIFAR-10's images.
fn on_device(config: &VaeConfig, batch: usize, form: StepForm) -> StepMemory {
    let step = vae_device_step::step_bytes(config, batch, form);
    // Burn's modules hold the model too, and the average of its weights, which pictures and checkpoints read.
    let copies = 1 + u64::from(form.has_average);
    StepMemory {
        parameters: step.parameters + copies * F32 * config.num_params(),
        activations: step.kept,
        in_flight: step.in_flight,
        program: CUDA_CONTEXT,
        allocator: CUBLASLT_WORKSPACE,
        images: 0,
        pictures: F32 * config.num_params()
            + POOLS * resnet::evaluation_bytes(config, PICTURE_BATCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::{Depth, Precision};

    const HOST: Place = Place::Host { keeps_freed: false };
    const GPU: Place = Place::Gpu { has_images: true };

    fn config(depth: Depth, width: f64) -> ModelConfig {
        VaeConfig::preset(depth)
            .with_width_multiplier(width)
            .with_latent_dim(64)
            .into()
    }

    #[test]
    fn the_devices_own_step_counts_its_buffers_and_the_images() {
        let config = VaeConfig::preset(Depth::Depth28).into();
        let size = StepSize {
            batch: 128,
            micro_batch: None,
            shards: 1,
            recomputes: false,
            has_average: false,
        };
        let of = |form, place| predict(&config, (form, place), size);
        let form = Form::OnDevice(Precision::Bf16);
        let own = of(form, GPU);
        // What a driver without a card was asked for, by `tests/kernels/tests/nvrtc`.
        let buffers = own.parameters + own.activations + own.in_flight + own.allocator;
        let share = buffers as f64 / 4.2245e9;
        assert!((0.97..1.03).contains(&share), "{own:?}: {share}");
        let others = own.program + CIFAR_BYTES + own.pictures;
        assert_eq!(own.total(), buffers + others);
        assert!(own.total() < of(Form::Plain, GPU).total());
        // Where the host keeps the images, nothing else changes.
        for form in [form, Form::Plain] {
            let without = of(form, Place::Gpu { has_images: false });
            let expected = StepMemory {
                images: 0,
                ..of(form, GPU)
            };
            assert_eq!(without, expected);
            assert_eq!(without.total(), of(form, GPU).total() - CIFAR_BYTES);
        }
    }

    /// Beside the maps there are pictures and the weights of the best epoch: without them a card of 8 GB would be promised more than it has.
    #[test]
    fn the_post_s_deepest_model_is_predicted_with_its_pictures() {
        let config = VaeConfig::preset(Depth::Depth100).into();
        let size = StepSize {
            batch: 25,
            micro_batch: None,
            shards: 1,
            recomputes: false,
            has_average: false,
        };
        let own = predict(&config, (Form::OnDevice(Precision::F32), GPU), size);
        // At most, by `tests/kernels/tests/nvrtc`, where a few images stand for CIFAR-10 and there is no context.
        let share = (own.total() - own.program - CIFAR_BYTES) as f64 / 6.50e9;
        assert!((0.99..1.05).contains(&share), "{own:?}: {share}");
        assert!(own.total() < 8_000_000_000, "{own:?}");
    }

    #[test]
    fn the_prediction_grows_with_the_batch_and_shrinks_with_micro_batches() {
        let config = config(Depth::Depth40, 0.125);
        let size = |batch, micro_batch| StepSize {
            batch,
            micro_batch,
            shards: 1,
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
}
