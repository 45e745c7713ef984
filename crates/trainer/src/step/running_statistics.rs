//! Taking back what a training pass did to the running statistics of the norms.

use std::collections::HashMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;

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

/// The running statistics before a step, to be given back where the step is skipped.
pub(crate) enum StatisticsSnapshot {
    /// The step is one pass, which can be taken back without having been prepared for.
    OnePass,
    /// It is several.
    SeveralPasses(RunningStatistics),
}

impl StatisticsSnapshot {
    /// What is needed to take back so many passes.
    pub(crate) fn take<M: Module>(module: &M, passes: usize) -> Self {
        match passes {
            1 => Self::OnePass,
            _ => Self::SeveralPasses(RunningStatistics::read(module)),
        }
    }

    /// Gives the statistics back after those passes.
    pub(crate) fn restore<M: Module>(self, module: M) -> M {
        match self {
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

        // A pass before any other is taken back to the initial statistics.
        let fresh = StageConfig::new(3, 2, 1).init(&device);
        let before = named_values(&fresh.valid());
        fresh.forward(images(3.0));
        assert_eq!(named_values(&undo_last_pass(fresh).valid()), before);
    }
}
