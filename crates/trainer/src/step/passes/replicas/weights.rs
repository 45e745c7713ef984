//! A model's trainable parameters, as they go from one device to another.

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::prelude::*;

use crate::experiment::model::Model;
use crate::step::adam::trainable;

pub(super) fn parameter_count(model: &Model) -> usize {
    let weights = weights(model).into_iter();
    weights.map(|weight| weight.shape().num_elements()).sum()
}

/// The trainable parameters, flattened, in the order of the module.
pub(super) fn weights<M: Module>(module: &M) -> Vec<Tensor<1>> {
    let mut reader = WeightReader(Vec::new());
    module.visit(&mut reader);
    reader.0
}

struct WeightReader(Vec<Tensor<1>>);

impl ModuleVisitor for WeightReader {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            self.0.push(value.inner().flatten(0, D - 1));
        }
    }
}

/// Gives a module the weights that [`weights`] read from another one of the same configuration.
pub(super) fn with_weights<M: Module>(module: M, weights: Vec<Tensor<1>>, device: &Device) -> M {
    let device = device.clone().inner();
    module.map(&mut WeightWriter {
        weights: weights.into_iter(),
        device,
    })
}

struct WeightWriter {
    weights: std::vec::IntoIter<Tensor<1>>,
    device: Device,
}

impl ModuleMapper for WeightWriter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let old = param.val();
        if !old.is_require_grad() {
            return param;
        }
        let new = self
            .weights
            .next()
            .expect("both modules have the same parameters");
        let new = new.to_device(&self.device).reshape(old.shape());
        Param::initialized(param.id, trainable(new, &old))
    }
}
