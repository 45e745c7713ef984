//! What a run does with a step once it has taken the last one: scores of other weights, and memory for others.

use cubecl::bytes::Bytes;
use vae_core::Vae;

use super::DeviceStep;
use crate::outcome::StepError;

impl DeviceStep {
    /// Takes the weights and running statistics of a model of the same form, to evaluate it in the buffers of training. The optimizer stays as it is.
    pub fn set_model(&mut self, model: &Vae) {
        let (parameters, statistics) = self.flat.layout.read(model);
        self.set_parameters(&parameters);
        let statistics = Bytes::from_elems(statistics);
        self.client().write(&self.flat.running, statistics);
    }

    /// Gives back the memory of all maps and graphs: the next step of any size of batch asks for it again.
    ///
    /// # Errors
    /// If the device failed.
    pub fn release(&mut self) -> Result<(), StepError> {
        self.prepared.clear();
        self.posteriors.clear();
        let released = self.client().memory_cleanup();
        released.map_err(|error| StepError(format!("{error}")))
    }
}
