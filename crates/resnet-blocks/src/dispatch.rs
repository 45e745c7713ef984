//! Which form of a block runs: the plain layers, one operation for the whole block, or an upsampling block without its zeros.
//!
//! The plain form in each block's `forward_plain` defines the result on every backend. The one operation needs feature `flex`, a
//! tensor that is on the flex backend at run time, float32 or float64, products in that type, ReLU, and norms that are all in
//! the mode that the input's device calls for. Elsewhere a transposed bottleneck leaves out its zeros (`upsampling.rs`), and
//! everything else takes the plain form.

use std::cell::Cell;

use burn::prelude::*;

use crate::bottleneck::Bottleneck;
use crate::convolution::Convolution;
use crate::upsampling;

thread_local! {
    static ONLY_PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the plain form of every block on this thread: the reference that fast forms are compared with.
#[doc(hidden)]
pub fn with_plain_blocks<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ONLY_PLAIN.set(self.0);
        }
    }
    let _restore = Restore(ONLY_PLAIN.replace(true));
    work()
}

/// The block's output by its fast form; none where the plain form is called for.
pub(crate) fn fast_bottleneck(block: &Bottleneck, input: &Tensor<4>) -> Option<Tensor<4>> {
    if ONLY_PLAIN.get() {
        return None;
    }
    #[cfg(feature = "flex")]
    if let Some(output) = flex::bottleneck(block, input) {
        return Some(output);
    }
    upsampling::has_zeros(block).then(|| upsampling::forward(block, input.clone()))
}

/// The layer's output by its fast form; none where the plain form is called for.
pub(crate) fn fast_convolution(layer: &Convolution, input: &Tensor<4>) -> Option<Tensor<4>> {
    if ONLY_PLAIN.get() {
        return None;
    }
    #[cfg(feature = "flex")]
    return flex::convolution(layer, input);
    #[cfg(not(feature = "flex"))]
    {
        let _ = (layer, input);
        None
    }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::{Dispatch, DispatchDevice};
    use burn::nn::BatchNorm;
    use burn::prelude::*;
    use burn::tensor::DType;

    use crate::activation::Activation;
    use crate::bottleneck::Bottleneck;
    use crate::convolution::{Convolution, Sampling};
    use crate::flex::{Around, AroundTensors, BlockConfig, BlockOps, BlockTensors, LayerTensors};
    use crate::norm::update_running;
    use crate::precision::Precision;
    use crate::shortcut::Shortcuts;

    pub(super) fn bottleneck(block: &Bottleneck, input: &Tensor<4>) -> Option<Tensor<4>> {
        let around = match (block.shortcut.shortcuts, &block.shortcut.projection) {
            (Shortcuts::Plain, _) => Around::Nothing,
            (Shortcuts::Residual, None) => Around::Identity,
            (Shortcuts::Residual, Some(_)) => Around::Projection,
        };
        let mut layers = vec![
            (&block.reduce, &block.reduce_norm),
            (&block.spatial, &block.spatial_norm),
            (&block.expand, &block.expand_norm),
        ];
        if around == Around::Projection {
            layers.extend(
                block
                    .shortcut
                    .projection
                    .iter()
                    .map(|around| (&around.convolution, &around.norm)),
            );
        }
        let is_training = input.device().is_autodiff();
        if !has_fast_layers(block, around, &layers)
            || !has_fast_tensors(input, &layers, is_training)
        {
            return None;
        }
        let config = BlockConfig {
            stride: block.reduce.stride,
            is_transposed: block.reduce.sampling == Sampling::Transposed,
            around,
            epsilon: std::array::from_fn(|index| {
                layers.get(index).map_or(0.0, |(_, norm)| norm.epsilon)
            }),
        };
        let device = input.device();
        let mut tensors = layers.iter().map(|(convolution, norm)| LayerTensors {
            weight: convolution.weight.val().into_dispatch(),
            bias: convolution.bias.val().into_dispatch(),
            gamma: norm.gamma.val().into_dispatch(),
            beta: norm.beta.val().into_dispatch(),
            running_mean: norm.running_mean.value().to_device(&device).into_dispatch(),
            running_variance: norm.running_var.value().to_device(&device).into_dispatch(),
        });
        let tensors = BlockTensors {
            input: input.clone().into_dispatch(),
            reduce: tensors.next()?,
            spatial: tensors.next()?,
            expand: tensors.next()?,
            around: tensors
                .next()
                .map_or(AroundTensors::None, AroundTensors::Projection),
        };
        if !is_training {
            return Some(Tensor::from_dispatch(Dispatch::bottleneck_infer(
                tensors, config,
            )));
        }
        let mut outputs = Dispatch::bottleneck_train(tensors, config).into_iter();
        let output = Tensor::from_dispatch(outputs.next()?);
        let statistics: Vec<Tensor<1>> = outputs.map(Tensor::from_dispatch).collect();
        for ((_, norm), statistics) in layers.iter().zip(statistics.chunks_exact(2)) {
            update_running(norm, &statistics[0], &statistics[1]);
        }
        Some(output)
    }

    pub(super) fn convolution(layer: &Convolution, input: &Tensor<4>) -> Option<Tensor<4>> {
        let weight = layer.weight.val();
        let is_fast = layer.kernel_size == 1
            && layer.stride == 1
            && is_supported(input)
            && weight.dtype() == input.dtype();
        is_fast.then(|| {
            let is_transposed = layer.sampling == Sampling::Transposed;
            let [input, weight, bias] = [
                input.clone().into_dispatch(),
                weight.into_dispatch(),
                layer.bias.val().into_dispatch(),
            ];
            Tensor::from_dispatch(Dispatch::pointwise(input, weight, bias, is_transposed))
        })
    }

    /// Whether the layers are those of an ordinary bottleneck.
    fn has_fast_layers(
        block: &Bottleneck,
        around: Around,
        layers: &[(&Convolution, &BatchNorm)],
    ) -> bool {
        let pointwise = |layer: &Convolution| layer.kernel_size == 1;
        let keeps_size =
            |layer: &Convolution| layer.stride == 1 && layer.sampling == Sampling::Strided;
        let (reduce, spatial, expand) = (&block.reduce, &block.spatial, &block.expand);
        let is_main = pointwise(reduce)
            && spatial.kernel_size == 3
            && keeps_size(spatial)
            && pointwise(expand)
            && keeps_size(expand);
        let is_around = match around {
            Around::Nothing => true,
            Around::Identity => reduce.stride == 1 && reduce.channels_in() == expand.channels_out(),
            Around::Projection => layers.get(3).is_some_and(|(layer, _)| {
                pointwise(layer)
                    && layer.stride == reduce.stride
                    && layer.sampling == reduce.sampling
            }),
        };
        let is_narrowed = reduce.precision != Precision::F32;
        block.activation == Activation::Relu && !is_narrowed && is_main && is_around
    }

    /// Whether all tensors are on flex, of one supported type, and the norms in the input's mode.
    fn has_fast_tensors(
        input: &Tensor<4>,
        layers: &[(&Convolution, &BatchNorm)],
        is_training: bool,
    ) -> bool {
        let dtype = input.dtype();
        is_supported(input)
            && layers.iter().all(|(convolution, norm)| {
                let (weight, gamma) = (convolution.weight.val(), norm.gamma.val());
                // Evaluation takes no gradients: parameters that could get one are for the plain form.
                let is_mode = if is_training {
                    norm.training.is_enabled()
                } else {
                    !weight.device().is_autodiff()
                };
                is_mode && weight.dtype() == dtype && gamma.dtype() == dtype
            })
    }

    /// Whether a tensor is on flex, not empty, and of a type that the fast forms know.
    fn is_supported(input: &Tensor<4>) -> bool {
        matches!(
            input.device().inner().as_dispatch(),
            DispatchDevice::Flex(_)
        ) && matches!(input.dtype(), DType::F32 | DType::F64)
            && input.shape().num_elements() > 0
    }
}
