//! The end of a step: penalties, the gradient's norm, the decision, Adam and the running statistics.

use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{cubes, units};

use super::norms::Norm;
use super::{DeviceStep, WIDTH, Weights};
use crate::factors::AdamOptions;
use crate::flat::{Flat, argument, create};
use crate::kernels::optimizer::{self, CHUNK_NUMBERS, RATES_LEN, RECORD_LEN, STATE_LEN};
use crate::kernels::{UNITS, running};
use crate::network::record_len;

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

impl DeviceStep {
    /// Penalties, norm, decision, Adam and running statistics. `record` has the terms of so many images.
    pub(super) fn end(&self, record: &Handle, images: usize, factors: &Handle) {
        let client = self.client();
        let (flat, tables) = (&self.flat, &self.tables);
        let (parameters, statistics) = (flat.layout.parameters, flat.layout.statistics);
        let chunks = tables.names.len();
        let cube = CubeDim::new_1d(UNITS as u32);
        let AdamOptions {
            beta_1,
            beta_2,
            epsilon,
        } = self.options.adam;
        let narrow = flat.narrow.as_ref().unwrap_or(&flat.weights);
        let is_narrowed = flat.narrow.is_some();
        let average = flat.average.as_ref();
        // What stands for an average is not written.
        let averages = [
            average.map_or(&flat.weights, |average| &average.weights),
            average.map_or(&flat.running, |average| &average.running),
        ];
        let rates = || argument(&self.objective.rates, RATES_LEN);
        let state = || argument(&self.state, STATE_LEN);
        // SAFETY: every buffer has the number of values that it was made with; a chunk lies inside the parameters.
        unsafe {
            optimizer::squares::launch_unchecked(
                client,
                CubeCount::Static(chunks as u32, 1, 1),
                cube,
                argument(&flat.weights, parameters),
                argument(&flat.gradients, parameters),
                argument(&tables.chunks, CHUNK_NUMBERS * chunks),
                argument(&tables.coefficients, chunks),
                argument(&tables.squares, chunks),
                argument(&tables.penalties, chunks),
            );
            optimizer::decide::launch_unchecked(
                client,
                CubeCount::Static(1, 1, 1),
                cube,
                argument(record, record_len(images)),
                argument(&tables.squares, chunks),
                argument(&tables.penalties, chunks),
                argument(&tables.chunks, CHUNK_NUMBERS * chunks),
                rates(),
                state(),
                record_len(images) - RECORD_LEN,
                chunks,
            );
            optimizer::adam::launch_unchecked(
                client,
                cubes(parameters / WIDTH),
                units(),
                WIDTH,
                argument(&flat.gradients, parameters),
                argument(&flat.weights, parameters),
                argument(&flat.first, parameters),
                argument(&flat.second, parameters),
                argument(narrow, parameters),
                argument(averages[0], parameters),
                state(),
                rates(),
                parameters / WIDTH,
                beta_1 as f32,
                beta_2 as f32,
                (1.0 - beta_1) as f32,
                (1.0 - beta_2) as f32,
                epsilon as f32,
                is_narrowed,
                average.is_some(),
                self.network.storage.elem(),
            );
            running::update_running::launch_unchecked(
                client,
                cubes(statistics),
                units(),
                argument(&flat.running, statistics),
                argument(&flat.moments, statistics),
                argument(&flat.weights, parameters),
                argument(&tables.bias_positions, statistics),
                argument(&tables.kept, statistics),
                argument(factors, statistics),
                argument(averages[1], statistics),
                state(),
                rates(),
                statistics,
                average.is_some(),
            );
        }
    }

    /// The weights in the products' type.
    pub(super) fn narrow(&self, weights: Weights) {
        let (from, narrow) = match (weights, &self.flat.average) {
            (Weights::Averaged, Some(average)) => (&average.weights, &average.narrow),
            _ => (&self.flat.weights, &self.flat.narrow),
        };
        let Some(narrow) = narrow else {
            return;
        };
        let count = self.flat.layout.parameters;
        // SAFETY: one unit a value of each.
        unsafe {
            optimizer::narrow_weights::launch_unchecked(
                self.client(),
                cubes(count),
                units(),
                argument(from, count),
                argument(narrow, count),
                count,
                self.network.storage.elem(),
            );
        }
    }
}
