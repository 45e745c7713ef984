//! The exponential moving average of the weights, which scores and pictures are of where it is kept.

use std::collections::HashMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use vae_measures::average_decay;

use crate::experiment::model::Model;
use crate::experiment::weights::{
    AVERAGE, NamedValues, WeightsError, load_values, named_values, take_average,
};

/// Which weights are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Those that are trained.
    Trained,
    /// Their average.
    Averaged,
}

/// Averages of all parameters and of the norms' running statistics, so that both belong together.
pub(crate) struct WeightAverage {
    decay: f64,
    /// Without gradients.
    model: Model,
}

impl WeightAverage {
    /// An average that starts as the weights.
    pub(crate) fn new(decay: f64, model: &Model) -> Self {
        Self {
            decay,
            model: model.valid(),
        }
    }

    /// The model with averaged weights, for evaluation.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The average as a device has it that keeps it there.
    #[cfg(feature = "cube")]
    pub(crate) fn set(&mut self, model: Model) {
        self.model = model;
    }

    /// Takes in the weights after an update, before which there were so many: `a + (1 - d) (w - a)` with the decay warmed up.
    pub(crate) fn update(&mut self, model: &Model, updates_before: u64) {
        let mut weights = Flattened(HashMap::new());
        model.valid().visit(&mut weights);
        let rate = 1.0 - average_decay(self.decay, updates_before);
        self.model = self.model.clone().map(&mut Toward {
            weights: weights.0,
            rate,
        });
    }

    /// The average's values for a checkpoint, with names that no moment of the optimizer has.
    pub(crate) fn to_named_values(&self) -> NamedValues {
        named_as_average(named_values(&self.model))
    }

    /// Takes the values of an average out of those that a checkpoint keeps beside the weights.
    pub(crate) fn take_values(values: &mut NamedValues) -> NamedValues {
        take_average(values)
    }

    /// Restores what [`to_named_values`](Self::to_named_values) gave, its names without the prefix.
    ///
    /// # Errors
    /// Where names or shapes are not the model's.
    pub(crate) fn from_values(
        decay: f64,
        model: &Model,
        values: &NamedValues,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            decay,
            model: load_values(model.valid(), values)?,
        })
    }
}

/// An average's values with the names that they have in a checkpoint.
pub(crate) fn named_as_average(values: NamedValues) -> NamedValues {
    let named = values.into_iter();
    named
        .map(|(name, value)| (format!("{AVERAGE}{name}"), value))
        .collect()
}

/// Every parameter and running statistic, flattened.
struct Flattened(HashMap<ParamId, Tensor<1>>);

impl ModuleVisitor for Flattened {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.insert(param.id, param.val().flatten(0, D - 1));
    }
}

struct Toward {
    weights: HashMap<ParamId, Tensor<1>>,
    rate: f64,
}

impl ModuleMapper for Toward {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(weight) = self.weights.remove(&param.id) else {
            return param;
        };
        let rate = self.rate;
        param.map(|average| {
            let weight = weight.reshape(average.shape());
            average.clone() + (weight - average).mul_scalar(rate)
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::initial_model;
    use vae_core::{Depth, VaeConfig};

    fn config() -> VaeConfig {
        VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(3)
    }

    fn model(seed: u64) -> Model {
        initial_model(&config().into(), seed, &Device::flex().autodiff())
    }

    #[test]
    fn an_update_moves_every_value_by_its_share() {
        let (start, weights) = (model(1), model(2));
        // The same identifiers, other values.
        let weights = load_values(start.clone(), &named_values(&weights.valid())).expect("fits");
        let start = model(1);
        let start = load_values(weights.clone(), &named_values(&start.valid())).expect("fits");
        let mut average = WeightAverage::new(0.999, &start);
        average.update(&weights, 0);
        // The first decay is 1 / 10.
        let (from, to) = (named_values(&start.valid()), named_values(&weights.valid()));
        let mut moved = 0;
        for (name, (_, found)) in named_values(average.model()) {
            for ((found, from), to) in found.iter().zip(&from[&name].1).zip(&to[&name].1) {
                let expected = from + 0.9 * (to - from);
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                    "{name}"
                );
                moved += usize::from(from != to);
            }
        }
        assert!(moved > 1000, "{moved}");
    }

    #[test]
    fn a_restored_average_continues_bit_for_bit() {
        let weights = model(2);
        let mut average = WeightAverage::new(0.9, &weights);
        let moved = load_values(weights.clone(), &named_values(&model(3).valid())).expect("fits");
        average.update(&moved, 5);
        let mut values = average.to_named_values();
        values.insert("first.other".to_owned(), (vec![1], vec![0.0]));
        let taken = WeightAverage::take_values(&mut values);
        assert_eq!(values.len(), 1);
        let mut restored = WeightAverage::from_values(0.9, &moved, &taken).expect("fits");
        let last = load_values(moved.clone(), &named_values(&model(4).valid())).expect("fits");
        restored.update(&last, 6);
        average.update(&last, 6);
        assert_eq!(
            named_values(restored.model()),
            named_values(average.model())
        );
    }
}
