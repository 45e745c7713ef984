//! Which form of a block runs: the plain layers, one operation for the whole block, or an upsampling block without its zeros.
//!
//! The plain form in each block's `forward_plain` defines the result on every backend. The one operation needs feature `flex`, a
//! tensor that is on the flex backend at run time, float32 or float64, products in that type, ReLU, and norms that are all in
//! the mode that the input's device calls for. Elsewhere a transposed bottleneck leaves out its zeros (`upsampling.rs`), and
//! everything else takes the plain form.

use std::cell::Cell;

use burn::prelude::*;

use crate::layers::{BottleneckLayers, ConvolutionLayer};
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
pub(crate) fn fast_bottleneck(
    block: &BottleneckLayers<'_>,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
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
pub(crate) fn fast_convolution(
    layer: &ConvolutionLayer<'_>,
    input: &Tensor<4>,
) -> Option<Tensor<4>> {
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
    use burn::prelude::*;
    use burn::tensor::DType;

    use crate::activation::Activation;
    use crate::flex::{Around, AroundTensors, BlockConfig, BlockOps, BlockTensors, LayerTensors};
    use crate::layers::{BottleneckLayers, ConvolutionLayer, NormalizedLayer, PathAround};
    use crate::norm::update_running;
    use crate::precision::Precision;
    use crate::sampling::Sampling;

    pub(super) fn bottleneck(block: &BottleneckLayers<'_>, input: &Tensor<4>) -> Option<Tensor<4>> {
        let mut layers = vec![block.reduce, block.spatial, block.expand];
        let around = match block.around {
            PathAround::Nothing => Around::Nothing,
            PathAround::Identity => Around::Identity,
            PathAround::Projection(layer) => {
                layers.push(layer);
                Around::Projection
            }
        };
        let is_training = input.device().is_autodiff();
        if !has_fast_layers(block) || !has_fast_tensors(input, &layers, is_training) {
            return None;
        }
        let config = BlockConfig {
            stride: block.reduce.convolution.stride,
            is_transposed: block.reduce.convolution.sampling == Sampling::Transposed,
            around,
            epsilon: std::array::from_fn(|index| {
                layers.get(index).map_or(0.0, |layer| layer.norm.epsilon)
            }),
        };
        let device = input.device();
        let mut tensors = layers
            .iter()
            .map(|NormalizedLayer { convolution, norm }| LayerTensors {
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
        // Every norm of a block stands behind its stride, on maps of the output's size.
        let [batch, _, height, width] = output.dims();
        let count = batch * height * width;
        for (layer, statistics) in layers.iter().zip(statistics.chunks_exact(2)) {
            update_running(layer.norm, &statistics[0], &statistics[1], count);
        }
        Some(output)
    }

    pub(super) fn convolution(
        layer: &ConvolutionLayer<'_>,
        input: &Tensor<4>,
    ) -> Option<Tensor<4>> {
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
    fn has_fast_layers(block: &BottleneckLayers<'_>) -> bool {
        let pointwise = |layer: &ConvolutionLayer<'_>| layer.kernel_size == 1;
        let keeps_size =
            |layer: &ConvolutionLayer<'_>| layer.stride == 1 && layer.sampling == Sampling::Strided;
        let [reduce, spatial, expand] =
            [block.reduce, block.spatial, block.expand].map(|layer| layer.convolution);
        let is_main = pointwise(&reduce)
            && spatial.kernel_size == 3
            && keeps_size(&spatial)
            && pointwise(&expand)
            && keeps_size(&expand);
        let is_around = match &block.around {
            PathAround::Nothing => true,
            PathAround::Identity => {
                reduce.stride == 1 && reduce.channels_in() == expand.channels_out()
            }
            PathAround::Projection(NormalizedLayer { convolution, .. }) => {
                pointwise(convolution)
                    && convolution.stride == reduce.stride
                    && convolution.sampling == reduce.sampling
            }
        };
        let is_narrowed = reduce.precision != Precision::F32;
        block.activation == Activation::Relu && !is_narrowed && is_main && is_around
    }

    /// Whether all tensors are on flex, of one supported type, and the norms in the input's mode.
    fn has_fast_tensors(
        input: &Tensor<4>,
        layers: &[NormalizedLayer<'_>],
        is_training: bool,
    ) -> bool {
        let dtype = input.dtype();
        is_supported(input)
            && layers.iter().all(|NormalizedLayer { convolution, norm }| {
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
