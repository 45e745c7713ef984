//! The buffers of the steps of one shape, and the graph that replays them.

use cubecl::bytes::Bytes;
use cubecl::server::{Handle, ServerError};
use resnet_blocks::cube::{
    Device as BlockDevice, Matrix, Queue, Storage, Vector32, cubes, pixels, units, values,
};
use resnet_blocks::variance_factor;

use super::DeviceStep;
use super::buffers::{Prepared, Shape, Source, Work};
use super::inputs::{StepInputs, Weights};
use super::norms::Norm;
use crate::flat::{argument, create};
use crate::kernels::images::PICK_NUMBERS;
use crate::kernels::latent;
use crate::network::{Batch, record_len};
use crate::outcome::StepError;
use crate::resident::StepImages;

pub(super) fn text(error: ServerError) -> String {
    format!("{error}")
}

impl DeviceStep {
    pub(super) fn prepare(&self, shape: Shape, images: &StepImages) -> Prepared {
        let client = self.client();
        let Shape { batch, size, .. } = shape;
        let storage = self.network.storage;
        let rows = batch * size[0] * size[1];
        let queue = Queue::new(client.clone());
        let matrix = |storage| Matrix::empty(&queue, rows, self.network.image_channels, storage);
        let masks = shape.has_masks.then(|| {
            self.network
                .features()
                .map(|features| client.empty(4 * batch * features))
        });
        // What one batch leaves behind no other reads, so that evaluation needs no maps of its own where it has as many images.
        let others = self.prepared.iter();
        let same = others.filter(|(other, _)| (other.batch, other.size) == (batch, size));
        let workspace = same.map(|(_, prepared)| prepared.workspace.clone()).next();
        let workspace = workspace.unwrap_or_default();
        let source = match images {
            StepImages::Given(_) => None,
            StepImages::Resident(images, _) => Some(Source {
                images: images.clone(),
                picks: images.picks(batch),
            }),
        };
        Prepared {
            source,
            batch: Batch {
                len: batch,
                size,
                input: matrix(storage),
                pixels: matrix(Storage::F32),
                noise: client.empty(4 * batch * self.network.latent_dim),
                masks,
                record: client.empty(4 * record_len(batch)),
            },
            device: BlockDevice {
                client: Queue::with_workspace(client.clone(), workspace.clone()),
                products: self.device.products.clone(),
                cuda: self.device.cuda,
            },
            work: shape.work,
            factors: create(client, &self.factors(shape)),
            workspace,
            launched: 0,
            graph: None,
        }
    }

    fn factors(&self, Shape { batch, work, .. }: Shape) -> Vec<f32> {
        self.of_statistics(|norm, is_variance| {
            let factor = if is_variance {
                self.variance_factor(norm, batch)
            } else {
                1.0
            };
            match work {
                Work::Step => norm.momentum * factor,
                _ => factor,
            }
        })
    }

    /// What makes a batch's variance at a norm an estimate of the population's.
    fn variance_factor(&self, norm: &Norm, batch: usize) -> f64 {
        let side = norm.scale.map_or(1, |scale| scale * self.network.grid);
        variance_factor(batch * side * side)
    }

    /// A number for each value of the statistics, by its norm and by whether it is a variance.
    pub(super) fn of_statistics(&self, number: impl Fn(&Norm, bool) -> f64) -> Vec<f32> {
        let mut numbers = vec![0.0; self.flat.layout.statistics];
        for norm in &self.norms {
            for (statistic, is_variance) in [("running_mean", false), ("running_var", true)] {
                let slot = self.flat.layout.slot(&format!("{}.{statistic}", norm.norm));
                if let Some(slot) = slot {
                    let value = number(norm, is_variance) as f32;
                    numbers[slot.offset..slot.offset + slot.len].fill(value);
                }
            }
        }
        numbers
    }

    pub(super) fn write_inputs(
        &self,
        prepared: &Prepared,
        inputs: StepInputs,
    ) -> Result<(), StepError> {
        let batch = &prepared.batch;
        let elsewhere = || StepError("a batch is on another device than the model".to_owned());
        let noise = values(inputs.noise).ok_or_else(elsewhere)?;
        // An evaluated batch may have fewer images than there is room for.
        let [images, ..] = inputs.images.dims();
        assert!(images <= batch.len, "more images than there is room for");
        match (inputs.images, &prepared.source) {
            (StepImages::Given(images), _) => {
                let images = pixels(images).ok_or_else(elsewhere)?;
                let images = Vector32 {
                    len: images.len(),
                    buffer: images.buffer,
                };
                for map in [&batch.input, &batch.pixels] {
                    self.copy(&images, &map.buffer.handle(), images.len, map.storage);
                }
            }
            (StepImages::Resident(images, picks), Some(source)) => {
                let mut numbers = images.numbers(&picks);
                // Whatever is behind the last image is not read.
                numbers.resize(PICK_NUMBERS * batch.len, 0);
                self.client()
                    .write(&source.picks, Bytes::from_elems(numbers));
            }
            (StepImages::Resident(..), None) => return Err(elsewhere()),
        }
        let noise_len = images * self.network.latent_dim;
        self.copy(&noise, &batch.noise, noise_len, Storage::F32);
        if let (Some(to), Some(from)) = (&batch.masks, inputs.dropout) {
            let lens = self.network.features().map(|features| batch.len * features);
            for ((to, len), from) in to.iter().zip(lens).zip([from.encoder, from.decoder]) {
                self.copy(&values(from).ok_or_else(elsewhere)?, to, len, Storage::F32);
            }
        }
        Ok(())
    }

    pub(super) fn copy(&self, from: &Vector32, to: &Handle, count: usize, storage: Storage) {
        assert_eq!(from.len, count, "values of a batch");
        // SAFETY: one unit a value of each.
        unsafe {
            latent::copy::launch_unchecked(
                self.client(),
                cubes(count),
                units(),
                from.argument(),
                argument(to, count),
                count,
                storage.elem(),
            );
        }
    }

    /// Launches the step, or replays it; captures the second one of a shape.
    pub(super) fn run(&mut self, prepared: &mut Prepared) -> Result<(), StepError> {
        if let Some(graph) = &prepared.graph {
            // SAFETY: all buffers are held by `self` and its workspaces, and one thread uses the queue.
            return unsafe { graph.replay() }.map_err(|error| StepError(text(error)));
        }
        let is_to_capture =
            self.options.is_captured && self.uncaptured.is_none() && prepared.launched == 1;
        let mut saved = None;
        if is_to_capture {
            let rehearsed = self.rehearse_capture();
            if rehearsed.is_ok() {
                saved = Some(self.saved(prepared.work)?);
            }
            let client = self.client();
            let ready = rehearsed.and_then(|()| client.graph_prepare().map_err(text));
            self.uncaptured = ready.err();
        }
        self.launch(prepared);
        prepared.launched += 1;
        match saved.filter(|_| self.uncaptured.is_none()) {
            Some(saved) => self.capture(prepared, saved),
            None => Ok(()),
        }
    }

    /// Captures and replays something small before the first step: where that fails, steps are launched.
    fn rehearse_capture(&mut self) -> Result<(), String> {
        const SIDE: usize = 128;
        if std::mem::replace(&mut self.has_rehearsed, true) {
            return Ok(());
        }
        let client = self.client().clone();
        let queue = Queue::new(client.clone());
        let storage = self.network.storage;
        let [left, right, out] = client.memory_persistent_allocation((), |()| {
            [(); 3].map(|()| Matrix::empty(&queue, SIDE, SIDE, storage))
        });
        let products = &self.device.products;
        let multiply = || products.multiply(&queue, left.plain(), right.plain(), &out, false);
        client.graph_prepare().map_err(text)?;
        multiply();
        let recorded = client.start_capture().map(|()| multiply());
        let graph = client.stop_capture();
        let graph = recorded.and(graph).map_err(text)?;
        if let Some(error) = products.take_failure() {
            return Err(error);
        }
        // SAFETY: its three matrices live until the end of this function, and what was launched before they go is done before they serve again.
        unsafe { graph.replay() }.map_err(text)
    }

    pub(super) fn launch(&self, prepared: &Prepared) {
        let Prepared {
            batch,
            source,
            device,
            work,
            factors,
            ..
        } = prepared;
        let objective = &self.objective;
        if let Some(Source { images, picks }) = source {
            images.take(picks, batch.len, &batch.pixels, &batch.input);
        }
        match *work {
            Work::Evaluation(weights) => {
                let averaged = match weights {
                    Weights::Trained => None,
                    Weights::Averaged => self.averaged.as_ref(),
                };
                if averaged.is_some() {
                    self.narrow(weights);
                }
                let network = averaged.unwrap_or(&self.network);
                network.evaluate(device, batch, objective.share);
            }
            Work::Posterior => {
                let kept = &self.posteriors[&batch.len];
                let share = objective.share;
                self.network
                    .infer_posterior(device, batch, &kept.posterior, share);
            }
            Work::Draw => {
                let kept = &self.posteriors[&batch.len];
                let (posterior, no_bias) = (&kept.posterior, &kept.no_bias);
                self.network
                    .score_draw(device, batch, posterior, no_bias, objective.share);
            }
            Work::KlSums => self.network.kl_sums(device, batch, objective),
            Work::Pass => self
                .network
                .forward_backward(device, batch, objective, false),
            Work::Step => {
                self.network
                    .forward_backward(device, batch, objective, true);
                self.end(&batch.record, batch.len, factors);
            }
        }
    }
}
