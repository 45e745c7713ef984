//! The fast forms as operations of Burn: on flex itself, and on autodiff over flex with their own backward.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, ExtensionType, Flex, backend_extension};
use burn::tensor::DType;
use burn_flex::FlexTensor;

use crate::flex::backward::backward;
use crate::flex::block::{BlockConfig, position};
use crate::flex::element::{Real, narrow};
use crate::flex::forward::{self, infer, train};
use crate::flex::layout::{dense, from_channels_last};
use crate::flex::pointwise::Pointwise;

/// A convolution and the norm behind it.
#[derive(ExtensionType)]
pub(crate) struct LayerTensors<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) bias: FloatTensor<B>,
    pub(crate) gamma: FloatTensor<B>,
    pub(crate) beta: FloatTensor<B>,
    /// Read in evaluation only, as the variance.
    pub(crate) running_mean: FloatTensor<B>,
    pub(crate) running_variance: FloatTensor<B>,
}

/// The layer around a block, where there is one.
#[derive(ExtensionType)]
pub(crate) enum AroundTensors<B: Backend> {
    None,
    Projection(#[extension_type] LayerTensors<B>),
}

/// The input and all parameters of a bottleneck.
#[derive(ExtensionType)]
pub(crate) struct BlockTensors<B: Backend> {
    pub(crate) input: FloatTensor<B>,
    #[extension_type]
    pub(crate) reduce: LayerTensors<B>,
    #[extension_type]
    pub(crate) spatial: LayerTensors<B>,
    #[extension_type]
    pub(crate) expand: LayerTensors<B>,
    #[extension_type]
    pub(crate) around: AroundTensors<B>,
}

impl<B: Backend> BlockTensors<B> {
    /// Input and parameters in the order of [`position`], and the running statistics.
    fn into_lists(self) -> (Vec<FloatTensor<B>>, Vec<FloatTensor<B>>) {
        let (mut inputs, mut running) = (vec![self.input], Vec::new());
        let around = match self.around {
            AroundTensors::None => None,
            AroundTensors::Projection(layer) => Some(layer),
        };
        for layer in [self.reduce, self.spatial, self.expand]
            .into_iter()
            .chain(around)
        {
            inputs.extend([layer.weight, layer.bias, layer.gamma, layer.beta]);
            running.extend([layer.running_mean, layer.running_variance]);
        }
        (inputs, running)
    }
}

/// The operations that tensors reach through dispatch.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait BlockOps: Backend {
    /// A bottleneck with batch statistics: its output, then mean and variance of each norm.
    fn bottleneck_train(
        #[extension_type] tensors: BlockTensors<Self>,
        config: BlockConfig,
    ) -> Vec<FloatTensor<Self>>;

    /// A bottleneck with running statistics.
    fn bottleneck_infer(
        #[extension_type] tensors: BlockTensors<Self>,
        config: BlockConfig,
    ) -> FloatTensor<Self>;

    /// A 1x1 convolution with stride 1.
    fn pointwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        is_transposed: bool,
    ) -> FloatTensor<Self>;
}

/// What the backend under autodiff does: each operation with what its backward needs.
pub(crate) trait BlockKernels: BlockOps {
    fn bottleneck_forward(
        inputs: &[FloatTensor<Self>],
        config: BlockConfig,
    ) -> (Vec<FloatTensor<Self>>, Kept<Self>);
    fn pointwise_forward(
        inputs: [FloatTensor<Self>; 3],
        is_transposed: bool,
    ) -> (FloatTensor<Self>, Kept<Self>);
}

/// What an operation keeps for backward.
pub(crate) struct Kept<B: Backend>(Arc<dyn KeptOperation<B>>);

impl<B: Backend> Clone for Kept<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend> fmt::Debug for Kept<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("Kept")
    }
}

trait KeptOperation<B: Backend>: Send + Sync {
    /// The gradients of all inputs, in their order; that of the first only where it is wanted.
    fn backward(
        &self,
        gradient: FloatTensor<B>,
        is_input_wanted: bool,
    ) -> Vec<Option<FloatTensor<B>>>;
}

struct KeptBottleneck<T> {
    kept: forward::Kept<T>,
    /// `[batch, height, width, channels_out]`
    output: FlexTensor,
}

impl<T: Real> KeptOperation<Flex> for KeptBottleneck<T> {
    fn backward(&self, gradient: FlexTensor, is_input_wanted: bool) -> Vec<Option<FlexTensor>> {
        backward(&self.kept, &self.output, gradient, is_input_wanted)
    }
}

impl KeptOperation<Flex> for Pointwise {
    fn backward(&self, gradient: FlexTensor, is_input_wanted: bool) -> Vec<Option<FlexTensor>> {
        let gradients = match gradient.dtype() {
            DType::F64 => self.gradients::<f64>(gradient, is_input_wanted),
            _ => self.gradients::<f32>(gradient, is_input_wanted),
        };
        gradients.into()
    }
}

impl BlockKernels for Flex {
    fn bottleneck_forward(
        inputs: &[FlexTensor],
        config: BlockConfig,
    ) -> (Vec<FlexTensor>, Kept<Flex>) {
        match inputs[position::INPUT].dtype() {
            DType::F64 => bottleneck::<f64>(inputs, config),
            _ => bottleneck::<f32>(inputs, config),
        }
    }

    fn pointwise_forward(
        [input, weight, bias]: [FlexTensor; 3],
        is_transposed: bool,
    ) -> (FlexTensor, Kept<Flex>) {
        let layer = Pointwise {
            input,
            weight,
            is_transposed,
        };
        let output = match bias.dtype() {
            DType::F64 => layer.forward::<f64>(&bias),
            _ => layer.forward::<f32>(&bias),
        };
        (output, Kept(Arc::new(layer)))
    }
}

fn bottleneck<T: Real>(
    inputs: &[FlexTensor],
    config: BlockConfig,
) -> (Vec<FlexTensor>, Kept<Flex>) {
    let (values, statistics, kept) = train::<T>(config, inputs);
    let sizes = kept.sizes;
    let output = from_channels_last(
        values,
        [
            sizes.batch,
            sizes.output[0],
            sizes.output[1],
            sizes.channels_out,
        ],
    );
    let mut outputs = vec![output.clone()];
    for (mean, variance) in statistics {
        outputs.extend([mean, variance].map(|values| dense::<T>(narrow(&values), &[values.len()])));
    }
    let kept = KeptBottleneck {
        kept,
        output: output.permute(&[0, 2, 3, 1]),
    };
    (outputs, Kept(Arc::new(kept)))
}

fn evaluate<T: Real>(
    inputs: &[FlexTensor],
    running: &[FlexTensor],
    config: BlockConfig,
) -> FlexTensor {
    let (sizes, values) = infer::<T>(config, inputs, running);
    from_channels_last(
        values,
        [
            sizes.batch,
            sizes.output[0],
            sizes.output[1],
            sizes.channels_out,
        ],
    )
}

impl BlockOps for Flex {
    fn bottleneck_train(tensors: BlockTensors<Self>, config: BlockConfig) -> Vec<FlexTensor> {
        Flex::bottleneck_forward(&tensors.into_lists().0, config).0
    }

    fn bottleneck_infer(tensors: BlockTensors<Self>, config: BlockConfig) -> FlexTensor {
        let (inputs, running) = tensors.into_lists();
        match inputs[position::INPUT].dtype() {
            DType::F64 => evaluate::<f64>(&inputs, &running, config),
            _ => evaluate::<f32>(&inputs, &running, config),
        }
    }

    fn pointwise(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        is_transposed: bool,
    ) -> FlexTensor {
        Flex::pointwise_forward([input, weight, bias], is_transposed).0
    }
}

/// The backward step of either operation.
#[derive(Debug)]
struct Step;

impl<B: BlockKernels, const N: usize> Backward<B, N> for Step {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let found = ops
            .state
            .0
            .backward(gradient, ops.parents[position::INPUT].is_some());
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Inputs of a bottleneck with and without a projection around it.
const WITH_PROJECTION: usize = position::SHORTCUT + 4;
const WITHOUT_PROJECTION: usize = position::SHORTCUT;

impl<B: BlockKernels, C: CheckpointStrategy> BlockOps for Autodiff<B, C> {
    fn bottleneck_train(
        tensors: BlockTensors<Self>,
        config: BlockConfig,
    ) -> Vec<FloatTensor<Self>> {
        fn tracked<B: BlockKernels, C: CheckpointStrategy, const N: usize>(
            inputs: Vec<FloatTensor<Autodiff<B, C>>>,
            config: BlockConfig,
        ) -> Vec<FloatTensor<Autodiff<B, C>>> {
            let primitives: Vec<_> = inputs
                .iter()
                .map(|input| input.primitive().clone())
                .collect();
            let (mut outputs, kept) = B::bottleneck_forward(&primitives, config);
            let statistics = outputs
                .split_off(1)
                .into_iter()
                .map(Autodiff::<B, C>::from_inner);
            let output = outputs.pop().expect("a block has an output");
            let nodes: [_; N] = std::array::from_fn(|index| inputs[index].node());
            let output = match Backward::<B, N>::prepare::<C>(Step, nodes)
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prepared) => prepared.finish(kept, output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            std::iter::once(output).chain(statistics).collect()
        }
        let (inputs, _) = tensors.into_lists();
        match inputs.len() {
            WITH_PROJECTION => tracked::<B, C, WITH_PROJECTION>(inputs, config),
            WITHOUT_PROJECTION => tracked::<B, C, WITHOUT_PROJECTION>(inputs, config),
            found => panic!(
                "a bottleneck has {WITHOUT_PROJECTION} or {WITH_PROJECTION} inputs, not {found}"
            ),
        }
    }

    fn bottleneck_infer(_: BlockTensors<Self>, _: BlockConfig) -> FloatTensor<Self> {
        panic!("a block with given statistics is not differentiated in its fast form")
    }

    fn pointwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        is_transposed: bool,
    ) -> FloatTensor<Self> {
        let inputs = [input, weight, bias];
        let primitives = std::array::from_fn(|index| inputs[index].primitive().clone());
        let (output, kept) = B::pointwise_forward(primitives, is_transposed);
        let nodes = std::array::from_fn(|index| inputs[index].node());
        match Backward::<B, 3>::prepare::<C>(Step, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(kept, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
