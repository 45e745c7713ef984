//! Norms of the gradients, which tell whether a step may be taken.

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::{DType, Gradients};
use resnet_blocks::{join, parameter_names, sum_in_fixed_order};

/// The squared norm of every parameter's gradient.
pub struct GradientNorms {
    ids: Vec<ParamId>,
    squares: Vec<f64>,
}

impl GradientNorms {
    /// Reads the norms, in one transfer.
    ///
    /// Squares are summed in the gradients' own element type: in float32 a gradient whose norm exceeds about 1.8e19
    /// counts as not finite, and so would its second moment in Adam.
    pub fn read<M: Module>(module: &M, gradients: &Gradients) -> Self {
        let mut reader = Reader {
            gradients,
            ids: Vec::new(),
            squares: Vec::new(),
        };
        module.visit(&mut reader);
        let Reader { ids, squares, .. } = reader;
        if squares.is_empty() {
            return Self {
                ids,
                squares: Vec::new(),
            };
        }
        let squares = join(squares, 0).into_data().convert_dtype(DType::F64);
        Self {
            ids,
            squares: squares
                .try_to_vec::<f64>()
                .expect("converted to float64 just now"),
        }
    }

    /// Whether every gradient is finite.
    pub fn are_finite(&self) -> bool {
        self.squares.iter().all(|square| square.is_finite())
    }

    /// The norm of all gradients as one vector.
    pub fn total(&self) -> f64 {
        self.squares.iter().sum::<f64>().sqrt()
    }

    /// The names of the parameters whose gradient is not finite, in the order of the module.
    pub fn not_finite<M: Module>(&self, module: &M) -> Vec<String> {
        // Nothing that would settle running statistics, which may yet be taken back.
        let parameters = parameter_names(module);
        let name = |id: &ParamId| {
            let found = parameters.iter().find(|parameter| parameter.id == *id);
            found.map_or_else(|| id.to_string(), |parameter| parameter.name.clone())
        };
        self.ids
            .iter()
            .zip(&self.squares)
            .filter(|(_, square)| !square.is_finite())
            .map(|(id, _)| name(id))
            .collect()
    }
}

struct Reader<'a> {
    gradients: &'a Gradients,
    ids: Vec<ParamId>,
    squares: Vec<Tensor<1>>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.ids.push(param.id);
            self.squares.push(sum_in_fixed_order(gradient.square()));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;

    #[test]
    fn norms_are_those_of_the_derivative() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        // The derivative by the weight is the input, by the bias 1.
        let input = Tensor::<2>::from_floats([[3.0, -4.0]], &device);
        let gradients = layer.forward(input).sum().backward();
        let norms = GradientNorms::read(&layer, &gradients);
        assert!(norms.are_finite());
        assert!((norms.total() - 26f64.sqrt()).abs() < 1e-6);
        assert!(norms.not_finite(&layer).is_empty());
    }

    #[test]
    fn the_parameter_whose_gradient_is_not_finite_is_named() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let input = Tensor::<2>::from_floats([[f32::INFINITY, 0.0]], &device);
        let gradients = layer.forward(input).sum().backward();
        let norms = GradientNorms::read(&layer, &gradients);
        assert!(!norms.are_finite());
        assert_eq!(norms.not_finite(&layer), ["weight"]);
    }
}
