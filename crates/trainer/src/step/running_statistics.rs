//! Taking back what a training pass did to the running statistics of the norms.

use std::collections::HashMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use resnet_blocks::join;

/// Gives the running statistics the values they had before the last training pass, the only change that a forward
/// pass makes to a module.
///
/// Call it at most once a pass, before anything else reads the module: Burn's running states keep the value before the
/// last update until they are asked for the newest one, which is what makes this free for steps that are not skipped.
/// A test holds Burn to that.
pub fn undo_last_pass<M: Module>(module: M) -> M {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    // Brings the pending update into effect, so that none is left to overwrite what is restored.
    drop(module.valid());
    module.map(&mut Restorer {
        found: reader.found,
    })
}

/// The running statistics before several training passes, of which [`undo_last_pass`] could take back the last one only.
#[derive(Clone)]
pub struct RunningStatistics {
    found: HashMap<ParamId, Tensor<1>>,
}

impl RunningStatistics {
    /// Reads the newest ones.
    pub fn read<M: Module>(module: &M) -> Self {
        // Brings a pending update into effect.
        drop(module.valid());
        let mut reader = Reader::default();
        module.visit(&mut reader);
        Self {
            found: reader.found,
        }
    }

    /// Gives them to a module that has made passes since.
    pub fn restore<M: Module>(self, module: M) -> M {
        drop(module.valid());
        module.map(&mut Restorer { found: self.found })
    }
}

/// All of them as one vector, in the order of the module's fields, without autodiff.
pub(crate) fn statistics_vector<M: Module>(module: &M) -> Tensor<1> {
    // Brings a pending update into effect.
    drop(module.valid());
    let mut reader = VectorReader::default();
    module.visit(&mut reader);
    join(reader.read, 0)
}

/// Gives a module the running statistics that [`statistics_vector`] read from another one of the same configuration, or a sum of
/// several. A module's clones share its running statistics, so that they get them too.
pub(crate) fn with_statistics_vector<M: Module>(module: M, vector: Tensor<1>) -> M {
    drop(module.valid());
    module.map(&mut VectorWriter {
        path: Vec::new(),
        vector,
        at: 0,
    })
}

#[derive(Default)]
struct VectorReader {
    path: Vec<String>,
    read: Vec<Tensor<1>>,
}

impl ModuleVisitor for VectorReader {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if is_running_statistic(self.path.last()) {
            self.read.push(param.val().inner().flatten(0, D - 1));
        }
    }
}

struct VectorWriter {
    path: Vec<String>,
    vector: Tensor<1>,
    at: usize,
}

impl ModuleMapper for VectorWriter {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !is_running_statistic(self.path.last()) {
            return param;
        }
        let old = param.val();
        let count = old.shape().num_elements();
        let value = self.vector.clone().narrow(0, self.at, count);
        self.at += count;
        let value = Tensor::from_inner(value.reshape(old.shape()));
        // Operands of one operation must share Burn's checkpointing strategy, and a new tensor gets its default.
        let value = match old.gradient_checkpointing_strategy() {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        Param::initialized(param.id, value)
    }
}

/// The running statistics before a step, to be given back where the step is skipped.
pub(crate) enum StatisticsSnapshot {
    /// The step does not touch the model's.
    Untouched,
    /// The step is one pass, which can be taken back without having been prepared for.
    OnePass,
    /// It is several.
    SeveralPasses(RunningStatistics),
}

impl StatisticsSnapshot {
    /// What is needed to take back so many passes through the model.
    pub(crate) fn take<M: Module>(module: &M, passes: usize) -> Self {
        match passes {
            0 => Self::Untouched,
            1 => Self::OnePass,
            _ => Self::SeveralPasses(RunningStatistics::read(module)),
        }
    }

    /// Gives the statistics back after those passes.
    pub(crate) fn restore<M: Module>(self, module: M) -> M {
        match self {
            Self::Untouched => module,
            Self::OnePass => undo_last_pass(module),
            Self::SeveralPasses(statistics) => statistics.restore(module),
        }
    }
}

/// By the field's name, which is Burn's.
fn is_running_statistic(field: Option<&String>) -> bool {
    matches!(
        field.map(String::as_str),
        Some("running_mean" | "running_var")
    )
}

#[derive(Default)]
struct Reader {
    path: Vec<String>,
    found: HashMap<ParamId, Tensor<1>>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if is_running_statistic(self.path.last()) {
            self.found.insert(param.id, param.val().flatten(0, D - 1));
        }
    }
}

struct Restorer {
    found: HashMap<ParamId, Tensor<1>>,
}

impl ModuleMapper for Restorer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.found.remove(&param.id) {
            Some(value) => Param::initialized(param.id, value.reshape(param.val().shape())),
            None => param,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::weights::named_values;
    use resnet_blocks::StageConfig;

    #[test]
    fn the_last_pass_leaves_no_trace_and_the_next_one_counts() {
        let device = Device::flex().autodiff();
        let stage = StageConfig::new(3, 2, 1).with_stride(2).init(&device);
        let images = |value: f32| {
            let pixels: Vec<f32> = (0..2 * 3 * 8 * 8)
                .map(|index| value * (index % 7) as f32)
                .collect();
            Tensor::<4>::from_data(TensorData::new(pixels, [2, 3, 8, 8]), &device)
        };
        stage.forward(images(1.0));
        let once = named_values(&stage.valid());
        stage.forward(images(f32::NAN));
        let stage = undo_last_pass(stage);
        assert_eq!(named_values(&stage.valid()), once);
        stage.forward(images(2.0));
        let twice = named_values(&stage.valid());
        assert_ne!(twice, once);
        assert!(
            twice
                .values()
                .all(|(_, values)| values.iter().all(|value| value.is_finite()))
        );

        // Several passes are taken back by what was read before them.
        let before = RunningStatistics::read(&stage);
        stage.forward(images(5.0));
        stage.forward(images(f32::INFINITY));
        let stage = before.restore(stage);
        assert_eq!(named_values(&stage.valid()), twice);

        // As one vector they go to another module.
        let other = StageConfig::new(3, 2, 1).with_stride(2).init(&device);
        let vector = statistics_vector(&stage);
        let other = with_statistics_vector(other, vector.clone().mul_scalar(2.0));
        let values = |vector: Tensor<1>| vector.into_data().try_to_vec::<f32>().expect("float32");
        let doubled: Vec<f32> = values(vector.clone())
            .iter()
            .map(|value| 2.0 * value)
            .collect();
        assert_eq!(values(statistics_vector(&other)), doubled);
        // A module's clones share them, as blocks do of a batch in shards.
        let clone = stage.clone();
        clone.forward(images(7.0));
        assert_ne!(named_values(&stage.valid()), twice);
        drop(with_statistics_vector(clone, vector));
        assert_eq!(named_values(&stage.valid()), twice);

        // A pass before any other is taken back to the initial statistics.
        let fresh = StageConfig::new(3, 2, 1).init(&device);
        let before = named_values(&fresh.valid());
        fresh.forward(images(3.0));
        assert_eq!(named_values(&undo_last_pass(fresh).valid()), before);
    }
}
