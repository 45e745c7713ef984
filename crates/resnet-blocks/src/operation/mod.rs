//! A whole bottleneck, or a whole 1x1 convolution, as one operation of Burn: on the backends that have kernels for it, and on autodiff over them
//! with its own backward.

mod block;

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, ExtensionType, backend_extension};

use crate::precision::Precision;
use crate::shared_batch::SharedBatch;

#[cfg(feature = "flex")]
pub(crate) use block::image_dims;
pub(crate) use block::{Around, BlockConfig, Sizes, position};

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

/// The parameters of a 1x1 convolution, `[channels_out, channels_in, 1, 1]` and `[channels_out]`.
#[derive(ExtensionType)]
pub(crate) struct PointwiseTensors<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) bias: FloatTensor<B>,
}

/// The layer behind a block that is evaluated with it, where there is one.
#[derive(ExtensionType)]
pub(crate) enum NextTensors<B: Backend> {
    None,
    Pointwise(#[extension_type] PointwiseTensors<B>),
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
    /// In evaluation on flex only.
    #[extension_type]
    pub(crate) next: NextTensors<B>,
}

impl<B: Backend> BlockTensors<B> {
    /// Input and parameters in the order of [`position`], and the running statistics.
    pub(crate) fn into_lists(self) -> (Vec<FloatTensor<B>>, Vec<FloatTensor<B>>) {
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
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub(crate) trait BlockOps: Backend {
    /// A bottleneck with batch statistics: its output, then mean and variance of each norm.
    fn bottleneck_train(
        #[extension_type] tensors: BlockTensors<Self>,
        config: BlockConfig,
    ) -> Vec<FloatTensor<Self>>;

    /// A bottleneck with running statistics, and the layer behind it where there is one.
    fn bottleneck_infer(
        #[extension_type] tensors: BlockTensors<Self>,
        config: BlockConfig,
    ) -> FloatTensor<Self>;

    /// A 1x1 convolution with stride 1; its output has the parameters' type.
    fn pointwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        is_transposed: bool,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// A vector `[n]` summed over all shards of a batch; its gradient is the sum of theirs.
    fn sum_over_parts(
        vector: FloatTensor<Self>,
        batch: SharedBatch,
        is_gradient: bool,
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
        precision: Precision,
    ) -> (FloatTensor<Self>, Kept<Self>);
}

/// What an operation keeps for backward.
pub(crate) struct Kept<B: Backend>(pub(crate) Arc<dyn KeptOperation<B>>);

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

/// What is kept of one operation.
pub(crate) trait KeptOperation<B: Backend>: Send + Sync {
    /// The gradients of all inputs, in their order; that of the first only where it is wanted.
    fn backward(
        &self,
        gradient: FloatTensor<B>,
        is_input_wanted: bool,
    ) -> Vec<Option<FloatTensor<B>>>;
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

/// The backward step of [`BlockOps::sum_over_parts`].
#[derive(Debug)]
struct SumStep;

impl<B: BlockOps> Backward<B, 1> for SumStep {
    type State = SharedBatch;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        let gradient = B::sum_over_parts(gradient, ops.state, true);
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, gradient);
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
        precision: Precision,
    ) -> FloatTensor<Self> {
        let inputs = [input, weight, bias];
        let primitives = std::array::from_fn(|index| inputs[index].primitive().clone());
        let (output, kept) = B::pointwise_forward(primitives, is_transposed, precision);
        let nodes = std::array::from_fn(|index| inputs[index].node());
        match Backward::<B, 3>::prepare::<C>(Step, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(kept, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn sum_over_parts(
        vector: FloatTensor<Self>,
        batch: SharedBatch,
        is_gradient: bool,
    ) -> FloatTensor<Self> {
        let output = B::sum_over_parts(vector.primitive().clone(), batch.clone(), is_gradient);
        match Backward::<B, 1>::prepare::<C>(SumStep, [vector.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(batch, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
