//! Every parameter and running statistic of a module, by name, in PyTorch's layouts.
//!
//! Names are those a PyTorch model of the same structure would have in its `state_dict`: `stages.1.0.reduce_norm.weight`
//! for gamma, `shortcut.weight` and `shortcut_norm.weight` for a projection. Dense weights are `[out, in]` (Burn keeps
//! `[in, out]`), convolutions `[out, in, height, width]`, transposed ones `[in, out, height, width]`.

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;

/// One parameter or running statistic.
#[derive(Clone, Debug)]
pub struct NamedParameter {
    /// Its name in a PyTorch `state_dict`.
    pub name: String,
    /// Burn's identifier, which gradients are found by.
    pub id: ParamId,
    /// Its values, in PyTorch's layout and the parameter's own element type.
    pub data: TensorData,
}

/// Reads every parameter and running statistic of `module`, in the order of its fields.
///
/// Call it on `module.valid()` where the module is training: running statistics are synchronised there.
pub fn named_parameters<M: Module>(module: &M) -> Vec<NamedParameter> {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.found
}

/// A parameter or running statistic without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterName {
    /// Its name in a PyTorch `state_dict`.
    pub name: String,
    /// Burn's identifier, which gradients are found by.
    pub id: ParamId,
    /// Its shape, in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Whether Burn keeps its values the other way round: a dense layer's weight, `[in, out]`.
    pub is_transposed: bool,
}

/// The names of every parameter and running statistic of `module`, in the order of its fields; no value is read, and no pending
/// running statistic comes into effect.
pub fn parameter_names<M: Module>(module: &M) -> Vec<ParameterName> {
    let mut reader = NameReader::default();
    module.visit(&mut reader);
    reader.found
}

/// Replaces every parameter and running statistic of `module` by `value(name, shape)`, keeping identifiers.
///
/// `shape` is PyTorch's; `None` keeps the present value. The new element type is that of the data.
///
/// # Panics
/// If the data's shape is not `shape`.
pub fn map_named_parameters<M: Module>(
    module: M,
    value: impl FnMut(&str, &[usize]) -> Option<TensorData>,
) -> M {
    let mut writer = Writer {
        path: Path::default(),
        value,
    };
    module.map(&mut writer)
}

/// The fields and indices on the way to a parameter.
#[derive(Default)]
struct Path {
    segments: Vec<Segment>,
}

struct Segment {
    name: String,
    /// What has the field, as Burn calls it: `Struct:Linear`.
    container: String,
}

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.segments.push(Segment {
            name: name.to_owned(),
            container: container.to_owned(),
        });
    }

    fn exit(&mut self) {
        self.segments.pop();
    }

    fn name(&self) -> String {
        let mut name: Vec<&str> = Vec::new();
        for Segment {
            name: field,
            container,
        } in &self.segments
        {
            let is_of_shortcut = name.last() == Some(&"shortcut");
            match (container.as_str(), field.as_str()) {
                // PyTorch's names know nothing of variants.
                (container, _) if container.starts_with("Enum:") => {}
                // A stage is its list of blocks, a shortcut its projection.
                ("Struct:Stage", "blocks") | ("Struct:Shortcut", "projection") => {}
                ("Struct:Projection", "convolution") if is_of_shortcut => {}
                ("Struct:Projection", "norm") if is_of_shortcut => {
                    name.pop();
                    name.push("shortcut_norm");
                }
                (_, "gamma") => name.push("weight"),
                (_, "beta") => name.push("bias"),
                (_, field) => name.push(field),
            }
        }
        name.join(".")
    }

    /// Whether the parameter is a dense layer's weight, which Burn keeps as `[in, out]`.
    fn is_transposed(&self) -> bool {
        let parameter = self.segments.last();
        parameter.is_some_and(|parameter| {
            (parameter.container.as_str(), parameter.name.as_str()) == ("Struct:Linear", "weight")
        })
    }
}

#[derive(Default)]
struct Reader {
    path: Path,
    found: Vec<NamedParameter>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let tensor = if self.path.is_transposed() {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        };
        self.found.push(NamedParameter {
            name: self.path.name(),
            id: param.id,
            data: tensor.into_data(),
        });
    }
}

#[derive(Default)]
struct NameReader {
    path: Path,
    found: Vec<ParameterName>,
}

impl ModuleVisitor for NameReader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape: Vec<usize> = param.lazy_shape().to_vec();
        let is_transposed = self.path.is_transposed();
        if is_transposed {
            shape.swap(0, 1);
        }
        self.found.push(ParameterName {
            name: self.path.name(),
            id: param.id,
            shape,
            is_transposed,
        });
    }
}

struct Writer<F> {
    path: Path,
    value: F,
}

impl<F: FnMut(&str, &[usize]) -> Option<TensorData>> ModuleMapper for Writer<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let device = param.lazy_device();
        let mut shape: Vec<usize> = param.lazy_shape().to_vec();
        if self.path.is_transposed() {
            shape.swap(0, 1);
        }
        let Some(data) = (self.value)(&name, &shape) else {
            return param;
        };
        let found = data.shape().to_vec();
        assert_eq!(found, shape, "`{name}` has shape {shape:?}, not {found:?}");
        let dtype = data.dtype();
        // On the host, so that the parameter is contiguous: a transposed view would be summed in another order, and a
        // restored model would not train on as the saved one did.
        let data = if self.path.is_transposed() {
            transposed(data)
        } else {
            data
        };
        let tensor = Tensor::<D>::from_data(data, (&device, dtype));
        // Keeps whether the parameter is trained, also where it is frozen or its device knows no gradients yet.
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// The transpose of a matrix.
fn transposed(data: TensorData) -> TensorData {
    let (bytes, shape, dtype) = data.into_parts();
    let [rows, columns] = shape.dims();
    let size = dtype.size();
    let mut swapped = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let start = (row * columns + column) * size;
            swapped.extend_from_slice(&bytes[start..start + size]);
        }
    }
    TensorData::from_bytes_vec(swapped, [columns, rows], dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sampling, StageConfig};

    /// A module that was loaded on a plain device trains all the same, and a frozen one stays frozen.
    #[cfg(feature = "flex")]
    #[test]
    fn loaded_parameters_are_trained_where_they_were_before() {
        fn trained<M: Module>(module: &M) -> usize {
            struct Trained(usize);
            impl ModuleVisitor for Trained {
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                    self.0 += usize::from(param.val().is_require_grad());
                }
            }
            let mut trained = Trained(0);
            module.visit(&mut trained);
            trained.0
        }
        let load = |stage: crate::Stage| {
            map_named_parameters(stage, |_, shape| {
                let count = shape.iter().product();
                Some(TensorData::new(vec![0.5f32; count], shape.to_vec()))
            })
        };
        let plain = Device::flex();
        let config = StageConfig::new(3, 1, 1);
        let never_loaded = trained(&config.init(&plain).train());
        assert!(never_loaded > 0);
        assert_eq!(trained(&load(config.init(&plain)).train()), never_loaded);
        let frozen = config.init(&plain.autodiff()).no_grad();
        assert_eq!(trained(&load(frozen)), 0);
    }

    #[test]
    fn names_are_those_of_a_pytorch_state_dict() {
        let device = Device::flex();
        let stage = StageConfig::new(3, 1, 1)
            .with_sampling(Sampling::Transposed)
            .init(&device);
        let found = named_parameters(&stage);
        let names: Vec<_> = found
            .iter()
            .map(|parameter| parameter.name.as_str())
            .collect();
        for name in [
            "0.reduce.weight",
            "0.reduce_norm.weight",
            "0.reduce_norm.running_var",
            "0.shortcut.bias",
            "0.shortcut_norm.bias",
            "1.expand.weight",
        ] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(
            !names.iter().any(|name| name.starts_with("1.shortcut")),
            "an identity has no parameters"
        );
        let total: usize = found
            .iter()
            .map(|parameter| parameter.data.num_elements())
            .sum();
        assert_eq!(total, stage.num_params());
        let without_values = parameter_names(&stage);
        assert_eq!(without_values.len(), found.len());
        for (name, parameter) in without_values.iter().zip(&found) {
            assert_eq!((&name.name, name.id), (&parameter.name, parameter.id));
            assert_eq!(name.shape, parameter.data.shape().to_vec());
        }
    }

    /// A module of another crate: its fields keep their names, and only dense layers are turned round.
    #[cfg(feature = "flex")]
    #[test]
    fn fields_of_other_modules_keep_their_names() {
        #[derive(Module, Debug)]
        struct Tokens {
            blocks: Vec<burn::nn::Embedding>,
            projection: burn::nn::Linear,
            norm: burn::nn::LayerNorm,
        }
        let device = Device::flex();
        let tokens = Tokens {
            blocks: vec![burn::nn::EmbeddingConfig::new(5, 3).init(&device)],
            projection: burn::nn::LinearConfig::new(2, 7).init(&device),
            norm: burn::nn::LayerNormConfig::new(3).init(&device),
        };
        let found = named_parameters(&tokens);
        let found: Vec<(&str, Vec<usize>)> = found
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter.data.shape().to_vec()))
            .collect();
        assert_eq!(
            found,
            [
                ("blocks.0.weight", vec![5, 3]),
                ("projection.weight", vec![7, 2]),
                ("projection.bias", vec![7]),
                ("norm.weight", vec![3]),
                ("norm.bias", vec![3]),
            ]
        );
        let weight = tokens.blocks[0].weight.val();
        let weight = weight.into_data().try_to_vec::<f32>();
        let read = named_parameters(&tokens)[0]
            .data
            .clone()
            .try_to_vec::<f32>();
        assert_eq!(read.expect("float32"), weight.expect("float32"));
    }

    #[test]
    fn what_is_written_is_read_back_and_keeps_its_identifier() {
        let device = Device::flex().autodiff();
        let dense = burn::nn::LinearConfig::new(2, 3).init(&device);
        let id = dense.weight.id;
        let dense = map_named_parameters(dense, |name, shape| {
            (name == "weight").then(|| {
                assert_eq!(shape, [3, 2], "PyTorch's layout");
                TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2])
            })
        });
        let output = dense.weight.val().inner().into_data();
        assert_eq!(
            output.try_to_vec::<f32>().expect("float32"),
            [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]
        );
        let found = named_parameters(&dense);
        assert_eq!((found[0].name.as_str(), found[0].id), ("weight", id));
        assert_eq!(
            found[0].data.clone().try_to_vec::<f32>().expect("float32"),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
        assert!(dense.weight.val().is_require_grad());
    }
}
