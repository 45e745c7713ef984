//! Sums of gradients over the parts of a batch.

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::Gradients;

/// Adds the gradients of one part of a batch, times its share of the batch, to those of the parts before.
///
/// Both are of passes of the same module; the sum of each parameter is taken in its own element type. A part that is the
/// whole batch stays as it is.
pub(crate) fn add_gradients<M: Module>(
    module: &M,
    sum: Option<Gradients>,
    part: Gradients,
    share: f64,
) -> Gradients {
    if sum.is_none() && share == 1.0 {
        return part;
    }
    let mut adder = Adder { sum, part, share };
    module.visit(&mut adder);
    adder.sum.unwrap_or(adder.part)
}

struct Adder {
    sum: Option<Gradients>,
    part: Gradients,
    share: f64,
}

impl ModuleVisitor for Adder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let Some(part) = value.grad_remove(&mut self.part) else {
            return;
        };
        let part = part.mul_scalar(self.share);
        match &mut self.sum {
            Some(sums) => {
                if let Some(sum) = value.grad_remove(sums) {
                    value.grad_replace(sums, sum + part);
                }
            }
            None => value.grad_replace(&mut self.part, part),
        }
    }
}

/// Adds the gradients of other parameters of the same module.
pub(crate) fn merge_gradients<M: Module>(module: &M, all: &mut Gradients, others: Gradients) {
    module.visit(&mut Merger { all, others });
}

struct Merger<'a> {
    all: &'a mut Gradients,
    others: Gradients,
}

impl ModuleVisitor for Merger<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if let Some(gradient) = value.grad_remove(&mut self.others) {
            value.grad_replace(self.all, gradient);
        }
    }
}

/// All gradients as one vector, in the order of the module's fields; takes them out.
///
/// # Panics
/// If there is none.
pub(crate) fn take_vector<M: Module>(module: &M, gradients: &mut Gradients) -> Tensor<1> {
    let mut taker = Taker {
        gradients,
        taken: Vec::new(),
    };
    module.visit(&mut taker);
    Tensor::cat(taker.taken, 0)
}

struct Taker<'a> {
    gradients: &'a mut Gradients,
    taken: Vec<Tensor<1>>,
}

impl ModuleVisitor for Taker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            self.taken.push(gradient.flatten(0, D - 1));
        }
    }
}

/// Puts back what [`take_vector`] took, or a sum of several of them.
pub(crate) fn put_vector<M: Module>(module: &M, gradients: &mut Gradients, vector: Tensor<1>) {
    module.visit(&mut Putter {
        gradients,
        vector,
        at: 0,
    });
}

struct Putter<'a> {
    gradients: &'a mut Gradients,
    vector: Tensor<1>,
    at: usize,
}

impl ModuleVisitor for Putter<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        // Running statistics have no gradient and were not taken.
        if !value.is_require_grad() {
            return;
        }
        let count = value.shape().num_elements();
        let gradient = self.vector.clone().narrow(0, self.at, count);
        self.at += count;
        value.grad_replace(self.gradients, gradient.reshape(value.shape()));
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;

    fn gradients(layer: &burn::nn::Linear, row: [f32; 2], device: &Device) -> Gradients {
        layer
            .forward(Tensor::<2>::from_floats([row], device))
            .sum()
            .backward()
    }

    fn weight_and_bias(layer: &burn::nn::Linear, gradients: &Gradients) -> Vec<f32> {
        let weight = layer.weight.val().grad(gradients).expect("a gradient");
        let bias = layer.bias.as_ref().expect("a bias").val();
        let bias = bias.grad(gradients).expect("a gradient");
        let values = |data: TensorData| data.try_to_vec::<f32>().expect("float32");
        let mut all = values(weight.into_data());
        all.extend(values(bias.into_data()));
        all
    }

    #[test]
    fn the_sum_is_the_derivative_of_the_weighted_sum() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let first = gradients(&layer, [3.0, -4.0], &device);
        let second = gradients(&layer, [0.5, 1.0], &device);
        let sum = add_gradients(&layer, None, first, 0.25);
        let sum = add_gradients(&layer, Some(sum), second, 0.5);
        // By the weight the sum of the weighted inputs, by the bias that of the weights.
        assert_eq!(weight_and_bias(&layer, &sum), [1.0, -0.5, 0.75]);
    }

    #[test]
    fn a_vector_that_is_put_back_is_what_was_taken() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let mut gradients = gradients(&layer, [3.0, -4.0], &device);
        let vector = take_vector(&layer, &mut gradients);
        assert!(layer.weight.val().grad(&gradients).is_none());
        put_vector(&layer, &mut gradients, vector.mul_scalar(2.0));
        assert_eq!(weight_and_bias(&layer, &gradients), [6.0, -8.0, 2.0]);
    }
}
