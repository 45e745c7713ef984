//! The end of a step: penalties, the gradient's norm, the decision, Adam and the running statistics.

use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{cubes, units};

use super::DeviceStep;
use super::inputs::Weights;
use crate::factors::AdamOptions;
use crate::flat::argument;
use crate::kernels::optimizer::{self, CHUNK_NUMBERS, RATES_LEN, RECORD_LEN, STATE_LEN};
use crate::kernels::{UNITS, running};
use crate::network::record_len;

/// Values of a vector in the optimizer's kernel: 16 bytes.
const WIDTH: usize = 4;

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
        let state = || argument(&self.objective.state, STATE_LEN);
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
