//! All gradients of a module as one vector, and back.

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::Gradients;
use resnet_blocks::join;

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

/// No gradients, to be given some with [`put_vector`].
pub(crate) fn no_gradients(device: &Device) -> Gradients {
    // Burn makes them in a backward pass alone.
    let one = Tensor::<1>::ones([1], &device.clone().inner());
    Tensor::from_inner(one).require_grad().backward()
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
    join(taker.taken, 0)
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
