//! What a step keeps on the device beside the weights.

use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::client::Graph;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{Device as BlockDevice, Workspace};

use super::inputs::{StepInputs, Weights};
use super::norms::Norm;
use crate::flat::{Flat, create};
use crate::kernels::optimizer::CHUNK_NUMBERS;
use crate::kernels::running;
use crate::network::Batch;
use crate::resident::{ResidentImages, StepImages};

/// What is done with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// A whole step.
    Step,
    /// Forward and backward of a shard of a batch.
    Pass,
    /// The encoder of a shard of a batch, for its divergence in each latent dimension.
    KlSums,
    /// Forward, with the running statistics.
    Evaluation(Weights),
    /// The encoder of that, whose posteriors are kept.
    Posterior,
    /// The decoder of that, for a draw from those.
    Draw,
}

/// Which batches can share buffers and a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) size: [usize; 2],
    pub(super) has_masks: bool,
    pub(super) work: Work,
    /// Which images of the device's it takes, where it does; what it is prepared with keeps them.
    pub(super) source: Option<usize>,
}

impl Shape {
    pub(super) fn of(inputs: &StepInputs, work: Work) -> Self {
        let [batch, height, width] = inputs.images.dims();
        let source = match &inputs.images {
            StepImages::Given(_) => None,
            StepImages::Resident(images, _) => Some(Arc::as_ptr(images) as usize),
        };
        Self {
            batch,
            size: [height, width],
            has_masks: inputs.dropout.is_some(),
            work,
            source,
        }
    }
}

/// The device's images that a batch is taken from, and which of them.
pub(super) struct Source {
    pub(super) images: Arc<ResidentImages>,
    pub(super) picks: Handle,
}

/// A shape's buffers.
pub(super) struct Prepared {
    pub(super) batch: Batch,
    pub(super) source: Option<Source>,
    pub(super) device: BlockDevice,
    pub(super) work: Work,
    /// What multiplies each moment: the newest batch's weight in the running statistic, or for a shard what makes variances unbiased.
    pub(super) factors: Handle,
    pub(super) workspace: Arc<Workspace>,
    pub(super) launched: usize,
    pub(super) graph: Option<Graph>,
}

/// Where the terms of a sum are, and the weight of its moments in each running statistic.
pub(super) struct Summed {
    pub(super) record: Handle,
    pub(super) factors: Handle,
}

/// The tables of the kernels that end a step.
pub(super) struct Tables {
    pub(super) chunks: Handle,
    pub(super) coefficients: Handle,
    pub(super) squares: Handle,
    pub(super) penalties: Handle,
    pub(super) names: Arc<Vec<String>>,
    pub(super) bias_positions: Handle,
    pub(super) kept: Handle,
}

impl Tables {
    pub(super) fn new(client: &Client, flat: &Flat, norms: &[Norm]) -> Option<Self> {
        let layout = &flat.layout;
        let chunks = layout.chunks();
        let coefficients: Vec<f32> = chunks
            .iter()
            .map(|(_, name)| vae_core::penalty_weight(name).unwrap_or(0.0) as f32)
            .collect();
        let mut bias_positions = vec![running::NO_BIAS; layout.statistics];
        let mut kept = vec![0.0f32; layout.statistics];
        for norm in norms {
            let bias = layout.slot(&format!("{}.bias", norm.layer))?;
            let mean = layout.slot(&format!("{}.running_mean", norm.norm))?;
            let variance = layout.slot(&format!("{}.running_var", norm.norm))?;
            for channel in 0..mean.len {
                bias_positions[mean.offset + channel] = (bias.offset + channel) as u32;
            }
            for slot in [mean, variance] {
                let value = (1.0 - norm.momentum) as f32;
                kept[slot.offset..slot.offset + slot.len].fill(value);
            }
        }
        let mut parameter = 1u32;
        let mut table: Vec<u32> = Vec::with_capacity(CHUNK_NUMBERS * chunks.len());
        for (at, (slot, name)) in chunks.iter().enumerate() {
            parameter += u32::from(at > 0 && chunks[at - 1].1 != *name);
            table.extend([slot.offset as u32, slot.len as u32, parameter]);
        }
        Some(Self {
            chunks: client.create(Bytes::from_elems(table)),
            coefficients: create(client, &coefficients),
            squares: client.empty(4 * chunks.len()),
            penalties: client.empty(4 * chunks.len()),
            names: Arc::new(chunks.iter().map(|(_, name)| (*name).to_owned()).collect()),
            bias_positions: client.create(Bytes::from_elems(bias_positions)),
            kept: create(client, &kept),
        })
    }
}
