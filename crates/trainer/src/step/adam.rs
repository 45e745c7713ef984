//! The optimizer, with a state that can be saved by name.

use std::collections::HashMap;

use burn::module::{ModuleMapper, Param, ParamId};
use burn::prelude::*;
use burn::tensor::Gradients;
use resnet_blocks::parameter_names;

use crate::experiment::weights::NamedValues;

pub(crate) const BETA_1: f64 = 0.9;
pub(crate) const BETA_2: f64 = 0.999;
/// Keras' default, and the experiment's.
pub(crate) const EPSILON: f64 = 1e-7;

/// Adam (Kingma and Ba 2015, algorithm 1), epsilon added after the bias correction.
///
/// Burn's own optimizer saves its state by identifiers drawn at random, restores it on the default device, and keeps its
/// decay rates in float32, where 1 - 0.999 is off by 1e-5. This one saves its state by name, so that equal runs give equal
/// files, and keeps them in float64.
#[derive(Default)]
pub struct Adam {
    steps: u64,
    moments: HashMap<ParamId, Moments>,
}

/// Of one parameter, flattened.
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

impl Adam {
    /// Before the first step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The element types of all moments.
    #[cfg(test)]
    pub(crate) fn element_types(&self) -> Vec<burn::tensor::DType> {
        let moments = self.moments.values();
        moments
            .flat_map(|moments| [moments.first.dtype(), moments.second.dtype()])
            .collect()
    }

    /// Takes one step; parameters without a gradient stay.
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients, learning_rate: f64) -> M {
        self.steps += 1;
        let steps = self.steps as f64;
        let mut update = Update {
            moments: &mut self.moments,
            gradients,
            // Both bias corrections, folded into the two scalars of an update.
            step_size: learning_rate / (1.0 - BETA_1.powf(steps)),
            second_scale: 1.0 / (1.0 - BETA_2.powf(steps)),
        };
        module.map(&mut update)
    }

    /// Both moments of every parameter, as `first.NAME` and `second.NAME`.
    pub fn to_named_values<M: Module>(&self, module: &M) -> NamedValues {
        let mut values = NamedValues::new();
        for parameter in parameter_names(module) {
            let Some(moments) = self.moments.get(&parameter.id) else {
                continue;
            };
            for (kind, moment) in [("first", &moments.first), ("second", &moments.second)] {
                let [count] = moment.dims();
                let moment = moment
                    .clone()
                    .into_data()
                    .convert_dtype(burn::tensor::DType::F32);
                let moment = moment
                    .try_to_vec::<f32>()
                    .expect("converted to float32 just now");
                values.insert(format!("{kind}.{}", parameter.name), (vec![count], moment));
            }
        }
        values
    }

    /// Restores what [`to_named_values`](Self::to_named_values) gave; `None` where a moment lacks its partner or
    /// belongs to no parameter of the module.
    pub fn from_named_values<M: Module>(
        steps: u64,
        values: &NamedValues,
        module: &M,
        device: &Device,
    ) -> Option<Self> {
        let device = device.clone().inner();
        let mut moments = HashMap::new();
        for parameter in parameter_names(module) {
            let read = |kind: &str| values.get(&format!("{kind}.{}", parameter.name));
            let (first, second) = match (read("first"), read("second")) {
                (Some(first), Some(second)) => (first, second),
                (None, None) => continue,
                _ => return None,
            };
            let count: usize = parameter.shape.iter().product();
            if first.1.len() != count || second.1.len() != count {
                return None;
            }
            let tensor = |values: &[f32]| {
                Tensor::<1>::from_data(TensorData::new(values.to_vec(), [count]), &device)
            };
            moments.insert(
                parameter.id,
                Moments {
                    first: tensor(&first.1),
                    second: tensor(&second.1),
                },
            );
        }
        (2 * moments.len() == values.len()).then_some(Self { steps, moments })
    }
}

/// A new value for the parameter that had `old`: a leaf that gradients are taken by.
pub(crate) fn trainable<const D: usize>(new: Tensor<D>, old: &Tensor<D>) -> Tensor<D> {
    let new = Tensor::from_inner(new);
    // Operands of one operation must share Burn's checkpointing strategy, and a new tensor gets its default.
    let new = match old.gradient_checkpointing_strategy() {
        Some(strategy) => new.with_gradient_checkpointing_strategy(strategy),
        None => new,
    };
    new.require_grad()
}

struct Update<'a> {
    moments: &'a mut HashMap<ParamId, Moments>,
    gradients: Gradients,
    step_size: f64,
    second_scale: f64,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(gradient) = param.val().grad_remove(&mut self.gradients) else {
            return param;
        };
        let shape = gradient.shape();
        let gradient: Tensor<1> = gradient.flatten(0, D - 1);
        let (first, second) = match self.moments.remove(&id) {
            Some(moments) => (
                moments.first.mul_scalar(BETA_1),
                moments.second.mul_scalar(BETA_2),
            ),
            None => (gradient.zeros_like(), gradient.zeros_like()),
        };
        let first = first + gradient.clone().mul_scalar(1.0 - BETA_1);
        let second = second + gradient.square().mul_scalar(1.0 - BETA_2);
        let root = second
            .clone()
            .mul_scalar(self.second_scale)
            .sqrt()
            .add_scalar(EPSILON);
        let change = (first.clone() / root).mul_scalar(self.step_size);
        self.moments.insert(id, Moments { first, second });
        param.map(|value| {
            let new = value.clone().inner() - change.reshape(shape);
            trainable(new, &value)
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::weights::named_values;
    use burn::nn::LinearConfig;

    fn step(adam: &mut Adam, layer: burn::nn::Linear, device: &Device) -> burn::nn::Linear {
        let input = Tensor::<2>::from_floats([[1.0, -2.0], [0.5, 3.0]], device);
        let gradients = layer.forward(input).square().sum().backward();
        adam.step(layer, gradients, 0.01)
    }

    #[test]
    fn ten_steps_match_burns_own_adam() {
        use burn::optim::{AdamConfig, GradientsParams};
        let device = Device::flex().autodiff();
        let start = LinearConfig::new(2, 3).init(&device);
        let start = resnet_blocks::map_named_parameters(start, |_, shape| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|index| 0.3 * index as f32 - 0.5).collect();
            Some(TensorData::new(values, shape.to_vec()))
        });
        let (mut ours, mut theirs) = (start.clone(), start);
        let (mut adam, mut burn) = (Adam::new(), AdamConfig::new().with_epsilon(1e-7).init());
        for _ in 0..10 {
            ours = step(&mut adam, ours, &device);
            let input = Tensor::<2>::from_floats([[1.0, -2.0], [0.5, 3.0]], &device);
            let gradients = theirs.forward(input).square().sum().backward();
            let gradients = GradientsParams::from_grads(gradients, &theirs);
            theirs = burn.step(0.01, theirs, gradients);
        }
        for (name, (_, expected)) in named_values(&theirs) {
            for (found, expected) in named_values(&ours)[&name].1.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{name}: {found} against {expected}"
                );
            }
        }
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let device = Device::flex().autodiff();
        let mut adam = Adam::new();
        let mut layer = LinearConfig::new(2, 3).init(&device);
        for _ in 0..3 {
            layer = step(&mut adam, layer, &device);
        }
        let saved = adam.to_named_values(&layer);
        let mut restored = Adam::from_named_values(3, &saved, &layer, &device).expect("complete");
        assert_eq!(restored.steps(), 3);
        let continued = step(&mut adam, layer.clone(), &device);
        let resumed = step(&mut restored, layer, &device);
        assert_eq!(named_values(&continued), named_values(&resumed));
    }

    #[test]
    fn an_incomplete_state_is_refused() {
        let device = Device::flex().autodiff();
        let mut adam = Adam::new();
        let layer = step(&mut adam, LinearConfig::new(2, 3).init(&device), &device);
        let mut saved = adam.to_named_values(&layer);
        saved.remove("second.bias");
        assert!(Adam::from_named_values(1, &saved, &layer, &device).is_none());
    }
}
