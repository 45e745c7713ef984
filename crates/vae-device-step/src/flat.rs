//! All parameters of a model in one buffer, their gradients and moments in buffers of the same layout, and its running statistics in another.

use std::sync::Arc;

use burn::prelude::Module;
use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, GradientSlots, LayerParameters, Matrix, Moments, Storage, Vector32,
};

use crate::layout::{Layout, Slot};

/// The buffers.
#[derive(Clone)]
pub(crate) struct Flat {
    pub(crate) layout: Arc<Layout>,
    pub(crate) weights: Handle,
    /// The weights in the products' type, where that is another one.
    pub(crate) narrow: Option<Handle>,
    pub(crate) gradients: Handle,
    pub(crate) first: Handle,
    pub(crate) second: Handle,
    pub(crate) running: Handle,
    pub(crate) moments: Handle,
    /// The average of weights and running statistics, where one is kept.
    pub(crate) average: Option<Average>,
}

/// The exponential moving average of a model's values.
#[derive(Clone)]
pub(crate) struct Average {
    pub(crate) weights: Handle,
    pub(crate) narrow: Option<Handle>,
    pub(crate) running: Handle,
}

impl Flat {
    /// With a module's values, and moments of zero. An average starts as the values.
    pub(crate) fn new<M: Module>(
        client: &Client,
        module: &M,
        storage: Storage,
        has_average: bool,
    ) -> Self {
        let layout = Arc::new(Layout::of(module));
        let (parameters, statistics) = layout.read(module);
        let zeros = |count: usize| create(client, &vec![0.0; count]);
        let narrow = || (storage == Storage::Bf16).then(|| client.empty(2 * layout.parameters));
        let average = || Average {
            weights: create(client, &parameters),
            narrow: narrow(),
            running: create(client, &statistics),
        };
        Self {
            average: has_average.then(average),
            weights: create(client, &parameters),
            narrow: narrow(),
            gradients: zeros(layout.parameters),
            first: zeros(layout.parameters),
            second: zeros(layout.parameters),
            running: create(client, &statistics),
            moments: zeros(layout.statistics),
            layout,
        }
    }

    /// The same with the average's values in place of the weights and running statistics.
    pub(crate) fn averaged(&self) -> Option<Self> {
        let Average {
            weights,
            narrow,
            running,
        } = self.average.clone()?;
        Some(Self {
            weights,
            narrow,
            running,
            ..self.clone()
        })
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&self) -> usize {
        let average = usize::from(self.average.is_some());
        let narrow = usize::from(self.narrow.is_some()) * (1 + average);
        let Layout {
            parameters,
            statistics,
            ..
        } = *self.layout;
        (16 + 4 * average + 2 * narrow) * parameters + (8 + 4 * average) * statistics
    }

    /// A range of one of the parameters' buffers.
    pub(crate) fn parameter(&self, buffer: &Handle, name: &str) -> Option<Vector32> {
        let slot = self.layout.slot(name)?;
        Some(range(buffer, self.layout.parameters, slot))
    }

    /// A parameter's weights as a matrix of the products' type.
    pub(crate) fn weight_matrix(&self, name: &str, rows: usize) -> Option<Matrix> {
        let slot = self.layout.slot(name)?;
        let columns = slot.len / rows;
        Some(match &self.narrow {
            None => Matrix {
                buffer: range(&self.weights, self.layout.parameters, slot).buffer,
                rows,
                columns,
                storage: Storage::F32,
            },
            Some(narrow) => Matrix {
                buffer: sliced(narrow, self.layout.parameters, slot, 2).into(),
                rows,
                columns,
                storage: Storage::Bf16,
            },
        })
    }

    /// A convolution's or dense layer's parameters and those of its norm.
    pub(crate) fn layer(&self, layer: &str, norm: &str) -> Option<LayerParameters> {
        let weight = format!("{layer}.weight");
        Some(LayerParameters {
            narrow_weight: match &self.narrow {
                None => None,
                Some(_) => self.weight_matrix(&weight, 1),
            },
            weight: self.parameter(&self.weights, &weight)?,
            bias: self.parameter(&self.weights, &format!("{layer}.bias"))?,
            affine: self.affine(&self.weights, norm)?,
        })
    }

    /// Where such a layer's gradients go.
    pub(crate) fn gradient_slots(&self, layer: &str, norm: &str) -> Option<GradientSlots> {
        Some(GradientSlots {
            weight: self.parameter(&self.gradients, &format!("{layer}.weight"))?,
            affine: self.affine(&self.gradients, norm)?,
        })
    }

    fn affine(&self, buffer: &Handle, norm: &str) -> Option<Affine> {
        Some(Affine {
            gamma: self.parameter(buffer, &format!("{norm}.weight"))?,
            beta: self.parameter(buffer, &format!("{norm}.bias"))?,
        })
    }

    /// Where the moments of a norm's batch go.
    pub(crate) fn moment_slots(&self, norm: &str) -> Option<Moments> {
        self.statistics(&self.moments, norm)
    }

    /// A norm's running statistics.
    pub(crate) fn running_slots(&self, norm: &str) -> Option<Moments> {
        self.statistics(&self.running, norm)
    }

    fn statistics(&self, buffer: &Handle, norm: &str) -> Option<Moments> {
        let slot = |name: &str| self.layout.slot(&format!("{norm}.{name}"));
        let of = |slot| range(buffer, self.layout.statistics, slot);
        Some(Moments {
            mean: of(slot("running_mean")?),
            variance: of(slot("running_var")?),
        })
    }
}

/// A buffer of float32 values.
pub(crate) fn create(client: &Client, values: &[f32]) -> Handle {
    // An empty buffer cannot be bound.
    let values = if values.is_empty() { &[0.0] } else { values };
    client.create(Bytes::from_elems(values.to_vec()))
}

/// A buffer's float32 values.
pub(crate) fn read(client: &Client, handle: &Handle) -> Result<Vec<f32>, String> {
    let bytes = client
        .read_one(handle.clone())
        .map_err(|error| format!("{error}"))?;
    Ok(f32::from_bytes(&bytes).to_vec())
}

/// A range of a buffer with so many values of so many bytes.
pub(crate) fn sliced(buffer: &Handle, all: usize, slot: Slot, size: usize) -> Handle {
    let behind = all - slot.offset - slot.len;
    buffer
        .clone()
        .offset_start((slot.offset * size) as u64)
        .offset_end((behind * size) as u64)
}

fn range(buffer: &Handle, all: usize, slot: Slot) -> Vector32 {
    Vector32 {
        buffer: sliced(buffer, all, slot, 4).into(),
        len: slot.len,
    }
}

/// All values of a buffer, as a kernel's argument.
pub(crate) fn argument(handle: &Handle, len: usize) -> BufferArg {
    // SAFETY: callers give the number of values that the buffer was made with.
    unsafe { BufferArg::from_raw_parts(handle.clone(), len) }
}
