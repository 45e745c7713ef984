//! What the host reads of a device's weights, statistics, moments and gradients, and writes there.

use std::collections::BTreeMap;

use cubecl::bytes::Bytes;
use vae_core::Vae;

use super::{DeviceStep, Weights};
use crate::flat::read;
use crate::kernels::optimizer::{STATE_LEN, STATE_UPDATES};
use crate::layout::Named;
use crate::outcome::StepError;

impl DeviceStep {
    /// The model with the present values. Clones of `model` get its running statistics too, because Burn's modules share them.
    ///
    /// # Errors
    /// If the device failed.
    pub fn model(&self, model: Vae) -> Result<Vae, StepError> {
        let parameters = read(self.client(), &self.flat.weights).map_err(StepError)?;
        let statistics = read(self.client(), &self.flat.running).map_err(StepError)?;
        Ok(self.flat.layout.write(model, &parameters, &statistics))
    }

    /// The model with the average of the weights and running statistics; none where no average is kept. As [`model`](Self::model) else.
    ///
    /// # Errors
    /// If the device failed.
    pub fn average(&self, model: Vae) -> Result<Option<Vae>, StepError> {
        let Some(average) = &self.flat.average else {
            return Ok(None);
        };
        let parameters = read(self.client(), &average.weights).map_err(StepError)?;
        let statistics = read(self.client(), &average.running).map_err(StepError)?;
        let layout = &self.flat.layout;
        Ok(Some(layout.write(model, &parameters, &statistics)))
    }

    /// The present weights and running statistics by name, in PyTorch's layouts; no tensor of Burn's is made.
    ///
    /// # Errors
    /// If the device failed.
    pub fn weights(&self) -> Result<Named, StepError> {
        let parameters = read(self.client(), &self.flat.weights).map_err(StepError)?;
        let statistics = read(self.client(), &self.flat.running).map_err(StepError)?;
        Ok(self.flat.layout.named(&parameters, &statistics))
    }

    /// As [`weights`](Self::weights), of the average; none where no average is kept.
    ///
    /// # Errors
    /// If the device failed.
    pub fn averaged_weights(&self) -> Result<Option<Named>, StepError> {
        let Some(average) = &self.flat.average else {
            return Ok(None);
        };
        let parameters = read(self.client(), &average.weights).map_err(StepError)?;
        let statistics = read(self.client(), &average.running).map_err(StepError)?;
        Ok(Some(self.flat.layout.named(&parameters, &statistics)))
    }

    /// Goes on with the average that a model of the same form has; without any effect where none is kept.
    pub fn restore_average(&mut self, average: &Vae) {
        let Some(buffers) = &self.flat.average else {
            return;
        };
        let (parameters, statistics) = self.flat.layout.read(average);
        let client = self.client();
        client.write(&buffers.weights, Bytes::from_elems(parameters));
        client.write(&buffers.running, Bytes::from_elems(statistics));
    }

    /// The optimizer's moments, as `first.NAME` and `second.NAME` with the number of values.
    ///
    /// # Errors
    /// If the device failed.
    pub fn moments(&self) -> Result<Named, StepError> {
        let mut all = BTreeMap::new();
        for (kind, buffer) in [("first", &self.flat.first), ("second", &self.flat.second)] {
            let values = read(self.client(), buffer).map_err(StepError)?;
            for (name, slot) in self.flat.layout.trainable() {
                let values = values[slot.offset..slot.offset + slot.len].to_vec();
                all.insert(format!("{kind}.{name}"), (vec![slot.len], values));
            }
        }
        Ok(all)
    }

    /// Goes on from an optimizer after so many updates; false where its moments are not those of this model.
    pub fn restore(&mut self, updates: u64, moments: &Named) -> bool {
        if updates == 0 && moments.is_empty() {
            // An optimizer that has none yet, as this one has them: all zero.
            return true;
        }
        let layout = &self.flat.layout;
        let mut buffers = Vec::new();
        for kind in ["first", "second"] {
            let mut all = vec![0.0; layout.parameters];
            for (name, slot) in layout.trainable() {
                let Some((_, values)) = moments.get(&format!("{kind}.{name}")) else {
                    // A parameter without a moment has never had a gradient; all have.
                    return false;
                };
                if values.len() != slot.len {
                    return false;
                }
                all[slot.offset..slot.offset + slot.len].copy_from_slice(values);
            }
            buffers.push(all);
        }
        let client = self.device.client.clone();
        client.write(&self.flat.first, Bytes::from_elems(buffers.remove(0)));
        client.write(&self.flat.second, Bytes::from_elems(buffers.remove(0)));
        let mut state = vec![0.0f32; STATE_LEN];
        state[STATE_UPDATES] = updates as f32;
        client.write(&self.objective.state, Bytes::from_elems(state));
        self.known_updates = updates;
        true
    }

    /// All parameters as they lie on the device: for [`set_parameters`](Self::set_parameters) of a step with a model of the same form.
    ///
    /// # Errors
    /// If the device failed.
    pub fn parameters(&self) -> Result<Vec<f32>, StepError> {
        read(self.client(), &self.flat.weights).map_err(StepError)
    }

    /// Takes the parameters of another device.
    ///
    /// # Panics
    /// If there are not as many as this model has.
    pub fn set_parameters(&mut self, parameters: &[f32]) {
        assert_eq!(parameters.len(), self.flat.layout.parameters, "parameters");
        let parameters = Bytes::from_elems(parameters.to_vec());
        self.client().write(&self.flat.weights, parameters);
        self.narrow(Weights::Trained);
    }

    /// The gradients of the last step, by name.
    ///
    /// # Errors
    /// If the device failed.
    pub fn gradients(&self) -> Result<BTreeMap<String, Vec<f32>>, StepError> {
        let values = read(self.client(), &self.flat.gradients).map_err(StepError)?;
        let named = self.flat.layout.trainable().map(|(name, slot)| {
            let values = values[slot.offset..slot.offset + slot.len].to_vec();
            (name.to_owned(), values)
        });
        Ok(named.collect())
    }
}
