//! Blocks and layers as one operation each, on the backends that have kernels for them.

use burn::backend::{Dispatch, DispatchDevice};
#[cfg(feature = "cube")]
use burn::nn::Linear;
use burn::prelude::*;
use burn::tensor::DType;

use crate::activation::Activation;
use crate::layers::{BottleneckLayers, ConvolutionLayer, NormalizedLayer, PathAround};
use crate::norm::update_running;
use crate::operation::{
    Around, AroundTensors, BlockConfig, BlockOps, BlockTensors, LayerTensors, NextTensors,
    PointwiseTensors,
};
use crate::precision::Precision;
use crate::sampling::Sampling;
use crate::shared_batch::SharedBatch;

fn layers<'a>(block: &BottleneckLayers<'a>) -> (Vec<NormalizedLayer<'a>>, Around) {
    let mut layers = vec![block.reduce, block.spatial, block.expand];
    let around = match block.around {
        PathAround::Nothing => Around::Nothing,
        PathAround::Identity => Around::Identity,
        PathAround::Projection(layer) => {
            layers.push(layer);
            Around::Projection
        }
    };
    (layers, around)
}

pub(super) fn config(block: &BottleneckLayers<'_>) -> Option<BlockConfig> {
    let (layers, around) = layers(block);
    has_fast_layers(block).then(|| BlockConfig {
        stride: block.reduce.convolution.stride,
        is_transposed: block.reduce.convolution.sampling == Sampling::Transposed,
        around,
        epsilon: std::array::from_fn(|index| {
            layers.get(index).map_or(0.0, |layer| layer.norm.epsilon)
        }),
        precision: block.reduce.convolution.precision,
    })
}

/// The output of the block, or of the layer behind it where that is given.
pub(super) fn bottleneck(
    block: &BottleneckLayers<'_>,
    input: &Tensor<4>,
    next: Option<&ConvolutionLayer<'_>>,
) -> Option<Tensor<4>> {
    let is_training = input.device().is_autodiff();
    // Of the kernels only those of flex know of statistics that shards share.
    #[cfg(feature = "cube")]
    if matches!(Kernels::of(input), Some(Kernels::Cube)) && SharedBatch::present().is_some() {
        return None;
    }
    let config = config(block)?;
    let (layers, _) = layers(block);
    if !has_fast_tensors(input, &layers, is_training) {
        return None;
    }
    let next = match next {
        None => NextTensors::None,
        Some(next) => {
            let block_channels = block.expand.convolution.channels_out();
            if is_training || next.channels_in() != block_channels {
                return None;
            }
            NextTensors::Pointwise(next_tensors(next, input)?)
        }
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
        next,
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
    let own = batch * height * width;
    let count = SharedBatch::present().map_or(own, |all| all.positions(own));
    for (layer, statistics) in layers.iter().zip(statistics.chunks_exact(2)) {
        update_running(layer.norm, &statistics[0], &statistics[1], count);
    }
    Some(output)
}

/// The parameters of a layer that is evaluated with the block before it; none where it is not to be.
fn next_tensors(
    layer: &ConvolutionLayer<'_>,
    input: &Tensor<4>,
) -> Option<PointwiseTensors<Dispatch>> {
    let kernels = Kernels::of(input)?;
    if !kernels.are_of_flex() || !is_pointwise(layer, kernels, input) {
        return None;
    }
    let (weight, bias) = (layer.weight.val(), layer.bias.val());
    // A layer that is trained behind a block which is not takes its step alone.
    if weight.device().is_autodiff() || bias.device().is_autodiff() {
        return None;
    }
    let weight = match layer.sampling {
        Sampling::Transposed => weight.swap_dims(0, 1),
        Sampling::Strided => weight,
    };
    Some(PointwiseTensors {
        weight: weight.into_dispatch(),
        bias: bias.into_dispatch(),
    })
}

/// Whether the kernels have the layer as a product over pixels.
fn is_pointwise(layer: &ConvolutionLayer<'_>, kernels: Kernels, input: &Tensor<4>) -> bool {
    layer.kernel_size == 1
        && layer.stride == 1
        && kernels.take(input, layer.weight.val().dtype(), layer.precision)
}

pub(super) fn convolution(layer: &ConvolutionLayer<'_>, input: &Tensor<4>) -> Option<Tensor<4>> {
    let weight = layer.weight.val();
    let is_fast = Kernels::of(input).is_some_and(|kernels| is_pointwise(layer, kernels, input));
    is_fast.then(|| {
        let is_transposed = layer.sampling == Sampling::Transposed;
        let [input, weight, bias] = [
            input.clone().into_dispatch(),
            weight.into_dispatch(),
            layer.bias.val().into_dispatch(),
        ];
        Tensor::from_dispatch(Dispatch::pointwise(
            input,
            weight,
            bias,
            is_transposed,
            layer.precision,
        ))
    })
}

/// A dense layer is a 1x1 convolution of images of one pixel. On flex Burn's own product serves it.
#[cfg(feature = "cube")]
pub(super) fn linear<const D: usize>(
    layer: &Linear,
    input: &Tensor<D>,
    precision: Precision,
) -> Option<Tensor<D>> {
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref()?.val());
    let [features_in, features_out] = weight.dims();
    let mut shape = input.dims();
    let rows = shape.iter().product::<usize>() / features_in;
    let pixels = input.clone().reshape([rows, features_in, 1, 1]);
    let kernels = Kernels::of(&pixels)?;
    if !matches!(kernels, Kernels::Cube) || !kernels.take(&pixels, weight.dtype(), precision) {
        return None;
    }
    let weight = weight.reshape([features_in, features_out, 1, 1]);
    let output = Tensor::<4>::from_dispatch(Dispatch::pointwise(
        pixels.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        true,
        precision,
    ));
    shape[D - 1] = features_out;
    Some(output.reshape(shape))
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
        PathAround::Identity => reduce.stride == 1 && reduce.channels_in() == expand.channels_out(),
        PathAround::Projection(NormalizedLayer { convolution, .. }) => {
            pointwise(convolution)
                && convolution.stride == reduce.stride
                && convolution.sampling == reduce.sampling
        }
    };
    block.activation == Activation::Relu && is_main && is_around
}

/// Whether there are kernels for all tensors, and the norms are in the input's mode.
fn has_fast_tensors(input: &Tensor<4>, layers: &[NormalizedLayer<'_>], is_training: bool) -> bool {
    let Some(kernels) = Kernels::of(input) else {
        return false;
    };
    let precision = layers[0].convolution.precision;
    layers.iter().all(|NormalizedLayer { convolution, norm }| {
        let (weight, gamma) = (convolution.weight.val(), norm.gamma.val());
        // Evaluation takes no gradients: parameters that could get one are for the plain form.
        let is_mode = if is_training {
            norm.training.is_enabled()
        } else {
            !weight.device().is_autodiff()
        };
        is_mode
            && convolution.precision == precision
            && kernels.take(input, weight.dtype(), precision)
            && gamma.dtype() == weight.dtype()
    })
}

/// Whose kernels a tensor's device has.
#[derive(Clone, Copy)]
enum Kernels {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "cube")]
    Cube,
}

impl Kernels {
    /// Those of the device of a tensor that is not empty.
    fn of(input: &Tensor<4>) -> Option<Self> {
        if input.shape().num_elements() == 0 {
            return None;
        }
        match input.device().inner().as_dispatch() {
            #[cfg(feature = "flex")]
            DispatchDevice::Flex(_) => Some(Self::Flex),
            #[cfg(feature = "cube")]
            DispatchDevice::Cube(_) => Some(Self::Cube),
            #[allow(unreachable_patterns)] // Where no other backend is built in.
            _ => None,
        }
    }

    fn are_of_flex(self) -> bool {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => true,
            #[cfg(feature = "cube")]
            Self::Cube => false,
        }
    }

    /// Whether they know the types of input and parameters.
    fn take(self, input: &Tensor<4>, parameters: DType, precision: Precision) -> bool {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => {
                matches!(input.dtype(), DType::F32 | DType::F64)
                    && precision == Precision::F32
                    && parameters == input.dtype()
            }
            #[cfg(feature = "cube")]
            Self::Cube => {
                let is_known = match precision {
                    Precision::F32 => input.dtype() == DType::F32,
                    Precision::Bf16 => matches!(input.dtype(), DType::F32 | DType::BF16),
                };
                is_known && parameters == DType::F32
            }
        }
    }
}
