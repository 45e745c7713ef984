//! All parameters of a model in one buffer, their gradients and moments in buffers of the same layout, and its running statistics in another.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::{Module, Tensor, TensorData};
use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, GradientSlots, LayerParameters, Matrix, Moments, Storage, Vector32,
};
use resnet_blocks::parameter_names;

/// Values between the beginnings of two parameters are a multiple of this: 256 bytes in bfloat16, as products and bindings want their operands.
pub(crate) const ALIGNMENT: usize = 128;
/// Values of a chunk of the gradient's norm; no chunk has values of two parameters.
const CHUNK: usize = 1 << 14;

/// Where a parameter's or statistic's values lie in its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Where everything lies.
pub(crate) struct Layout {
    names: HashMap<String, usize>,
    /// Of every parameter and statistic, in the module's order: its name, whether it is a statistic, and where its values lie.
    entries: Vec<(String, bool, Slot)>,
    /// Values of the parameters' buffer.
    pub(crate) parameters: usize,
    /// Values of the statistics' buffer.
    pub(crate) statistics: usize,
}

impl Layout {
    pub(crate) fn of<M: Module>(module: &M) -> Self {
        let (mut parameters, mut statistics) = (0, 0);
        let mut entries = Vec::new();
        for parameter in parameter_names(module) {
            let is_statistic = is_statistic(&parameter.name);
            let end = if is_statistic {
                &mut statistics
            } else {
                &mut parameters
            };
            let len = parameter.shape.iter().product();
            let slot = Slot { offset: *end, len };
            *end = (*end + len).next_multiple_of(ALIGNMENT);
            entries.push((parameter.name, is_statistic, slot));
        }
        let names = entries.iter().enumerate();
        let names = names.map(|(index, (name, ..))| (name.clone(), index));
        Self {
            names: names.collect(),
            entries,
            parameters,
            statistics,
        }
    }

    /// Where a parameter or statistic lies.
    pub(crate) fn slot(&self, name: &str) -> Option<Slot> {
        self.names.get(name).map(|index| self.entries[*index].2)
    }

    /// Every parameter's name and place, in the module's order.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = (&str, Slot)> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, is_statistic, _)| !is_statistic)
            .map(|(name, _, slot)| (name.as_str(), *slot))
    }

    /// The chunks that the gradient's norm is summed in: first value and number of values, and whose they are.
    pub(crate) fn chunks(&self) -> Vec<(Slot, &str)> {
        let chunks = self.trainable().flat_map(|(name, slot)| {
            (0..slot.len).step_by(CHUNK).map(move |first| {
                let len = CHUNK.min(slot.len - first);
                let offset = slot.offset + first;
                (Slot { offset, len }, name)
            })
        });
        chunks.collect()
    }

    /// A module's values in the two buffers' layouts: parameters and statistics.
    pub(crate) fn read<M: Module>(&self, module: &M) -> (Vec<f32>, Vec<f32>) {
        let mut reader = Reader {
            entries: self.entries.iter(),
            parameters: vec![0.0; self.parameters],
            statistics: vec![0.0; self.statistics],
        };
        module.visit(&mut reader);
        (reader.parameters, reader.statistics)
    }

    /// The module with other values, on its own device.
    pub(crate) fn write<M: Module>(&self, module: M, parameters: &[f32], statistics: &[f32]) -> M {
        module.map(&mut Writer {
            entries: self.entries.iter(),
            parameters,
            statistics,
        })
    }
}

fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

struct Reader<'a> {
    entries: std::slice::Iter<'a, (String, bool, Slot)>,
    parameters: Vec<f32>,
    statistics: Vec<f32>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (name, is_statistic, slot) = self.entries.next().expect("the layout's own module");
        let values = param.val().into_data().try_to_vec::<f32>();
        let values = values.unwrap_or_else(|error| panic!("{name} is not float32: {error:?}"));
        let all = if *is_statistic {
            &mut self.statistics
        } else {
            &mut self.parameters
        };
        all[slot.offset..slot.offset + slot.len].copy_from_slice(&values);
    }
}

struct Writer<'a> {
    entries: std::slice::Iter<'a, (String, bool, Slot)>,
    parameters: &'a [f32],
    statistics: &'a [f32],
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, is_statistic, slot) = self.entries.next().expect("the layout's own module");
        let all = if *is_statistic {
            self.statistics
        } else {
            self.parameters
        };
        let values = all[slot.offset..slot.offset + slot.len].to_vec();
        let (device, shape) = (param.lazy_device(), param.lazy_shape());
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        let is_trained = device.is_autodiff() && !is_statistic;
        Param::initialized(param.id, tensor.set_require_grad(is_trained))
    }
}

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
