//! Recording a batch's work as a graph, and going on without where that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::server::Handle;
use resnet_blocks::cube::{Queue, Workspace};

use super::buffers::{Prepared, Work};
use super::prepared::text;
use super::{DeviceStep, Weights};
use crate::network::record_len;
use crate::outcome::StepError;

/// What a step changes, as it was before, on the host.
pub(super) struct Saved(Vec<(Handle, Bytes)>);

impl DeviceStep {
    /// Gives up every graph that is captured from here on, as where a driver makes none: to test what follows.
    #[doc(hidden)]
    pub fn refuse_captures(&mut self) {
        self.refuses_captures = true;
    }

    /// Reads what this work changes of what the next one begins with: after a capture that failed it cannot be read any more, because CubeCL takes
    /// what was to be written as lost. Waits for the steps before; a size of batch is captured once.
    pub(super) fn saved(&self, work: Work) -> Result<Saved, StepError> {
        let flat = &self.flat;
        let mut changed = Vec::new();
        if work == Work::Step {
            changed.extend([&flat.weights, &flat.first, &flat.second, &flat.running]);
            changed.push(&self.objective.state);
            if let Some(average) = &flat.average {
                changed.extend([&average.weights, &average.running]);
            }
        }
        let read = changed.into_iter().map(|handle| {
            let values = self.client().read_one(handle.clone());
            let values = values.map_err(|error| StepError(text(error)))?;
            Ok((handle.clone(), values))
        });
        Ok(Saved(read.collect::<Result<_, StepError>>()?))
    }

    /// Records what has been launched just now, which filled the workspace, as a graph. Where that fails, everything is launched from here on, this
    /// work among it: `saved` is what it begins with.
    pub(super) fn capture(
        &mut self,
        prepared: &mut Prepared,
        saved: Saved,
    ) -> Result<(), StepError> {
        let client = self.client().clone();
        let opened = client.start_capture();
        // A product that was not made by then is no fault of the capture.
        let before = self.check();
        let recorded = opened.map_err(text).and_then(|()| {
            // A product that cannot be recorded is seen by the next one, which panics.
            let launched = catch_unwind(AssertUnwindSafe(|| self.launch(prepared)));
            launched.map_err(|_| "the work panicked while it was recorded".to_owned())
        });
        // Whatever happened, the queue must leave the capture.
        let mut graph = client.stop_capture().map_err(text);
        if self.refuses_captures {
            graph = Err("captures are refused".to_owned());
        }
        before?;
        // A graph without one of its products would be replayed all the same.
        let of_products = self.device.products.take_failure().map_or(Ok(()), Err);
        match of_products.and(recorded).and(graph) {
            Ok(graph) => {
                prepared.graph = Some(graph);
                Ok(())
            }
            Err(reason) => {
                self.uncaptured = Some(reason);
                self.begin_again(prepared, saved)
            }
        }
    }

    /// Does a batch's work once more in new buffers, from what there was before it.
    fn begin_again(&mut self, prepared: &mut Prepared, saved: Saved) -> Result<(), StepError> {
        let client = self.client().clone();
        // Other sizes' graphs, whose buffers these may be too, are given up with it.
        self.prepared.clear();
        let workspace = Arc::<Workspace>::default();
        prepared.device.client = Queue::with_workspace(client.clone(), workspace.clone());
        prepared.workspace = workspace;
        let record = 4 * record_len(prepared.batch.len);
        prepared.batch.record = client.memory_persistent_allocation((), |()| client.empty(record));
        let released = client.memory_cleanup();
        released.map_err(|error| StepError(text(error)))?;
        for (handle, values) in saved.0 {
            client.write(&handle, values);
        }
        let fill = |handle: &Handle, count: usize, value: f32| {
            client.write(handle, Bytes::from_elems(vec![value; count]));
        };
        let layout = &self.flat.layout;
        fill(&self.flat.gradients, layout.parameters, 0.0);
        fill(&self.flat.moments, layout.statistics, 0.0);
        let latents = self.network.latent_dim;
        fill(&self.objective.kl_sums, latents, 0.0);
        if prepared.work == Work::Step {
            // A step decides them itself; those of a shard's pass are its caller's, and only read.
            fill(&self.objective.kl_slopes, latents, 1.0);
        }
        self.narrow(Weights::Trained);
        self.launch(prepared);
        Ok(())
    }
}
