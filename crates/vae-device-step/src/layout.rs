//! Where the values of every parameter and running statistic of a model lie in the flat buffers.

use std::collections::{BTreeMap, HashMap};

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::{Module, Tensor, TensorData};
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

/// Values by name, each with its shape.
pub(crate) type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A parameter or running statistic.
struct Entry {
    name: String,
    /// In PyTorch's layout.
    shape: Vec<usize>,
    is_transposed: bool,
    is_statistic: bool,
    slot: Slot,
}

impl Entry {
    /// Its values, of the buffers' values.
    fn values<'a>(&self, parameters: &'a [f32], statistics: &'a [f32]) -> &'a [f32] {
        let all = if self.is_statistic {
            statistics
        } else {
            parameters
        };
        &all[self.slot.offset..self.slot.offset + self.slot.len]
    }
}

/// Where everything lies.
pub(crate) struct Layout {
    names: HashMap<String, usize>,
    /// Of every parameter and statistic, in the module's order.
    entries: Vec<Entry>,
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
            entries.push(Entry {
                name: parameter.name,
                shape: parameter.shape,
                is_transposed: parameter.is_transposed,
                is_statistic,
                slot,
            });
        }
        let names = entries.iter().enumerate();
        let names = names.map(|(index, entry)| (entry.name.clone(), index));
        Self {
            names: names.collect(),
            entries,
            parameters,
            statistics,
        }
    }

    /// Where a parameter or statistic lies.
    pub(crate) fn slot(&self, name: &str) -> Option<Slot> {
        self.names.get(name).map(|index| self.entries[*index].slot)
    }

    /// Every parameter's name and place, in the module's order.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = (&str, Slot)> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| !entry.is_statistic)
            .map(|entry| (entry.name.as_str(), entry.slot))
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

    /// The buffers' values by name, in PyTorch's layouts.
    pub(crate) fn named(&self, parameters: &[f32], statistics: &[f32]) -> Named {
        let named = self.entries.iter().map(|entry| {
            let values = entry.values(parameters, statistics);
            let values = match entry.shape[..] {
                [rows, columns] if entry.is_transposed => (0..rows * columns)
                    .map(|index| values[index % columns * rows + index / columns])
                    .collect(),
                _ => values.to_vec(),
            };
            (entry.name.clone(), (entry.shape.clone(), values))
        });
        named.collect()
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
    entries: std::slice::Iter<'a, Entry>,
    parameters: Vec<f32>,
    statistics: Vec<f32>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Entry {
            name,
            is_statistic,
            slot,
            ..
        } = self.entries.next().expect("the layout's own module");
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
    entries: std::slice::Iter<'a, Entry>,
    parameters: &'a [f32],
    statistics: &'a [f32],
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let entry = self.entries.next().expect("the layout's own module");
        let values = entry.values(self.parameters, self.statistics).to_vec();
        let (device, shape) = (param.lazy_device(), param.lazy_shape());
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        let is_trained = device.is_autodiff() && !entry.is_statistic;
        Param::initialized(param.id, tensor.set_require_grad(is_trained))
    }
}
