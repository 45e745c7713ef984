//! The operations on flex.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::FlexTensor;

use crate::flex::backward::backward;
use crate::flex::element::{Real, narrow};
use crate::flex::forward::{self, infer, train};
use crate::flex::layout::{dense, from_channels_last, wide_values};
use crate::flex::pointwise::{NextLayer, Pointwise};
use crate::operation::{
    BlockConfig, BlockKernels, BlockOps, BlockTensors, Kept, KeptOperation, NextTensors,
    PointwiseTensors, position,
};
use crate::precision::Precision;
use crate::shared_batch::SharedBatch;

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
        _precision: Precision,
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
    next: Option<PointwiseTensors<Flex>>,
    config: BlockConfig,
) -> FlexTensor {
    let next = next.map(|next| NextLayer::<T>::new(next.weight, next.bias));
    let (sizes, values) = infer::<T>(config, inputs, running, next.as_ref());
    let channels_out = next.map_or(sizes.channels_out, |next| next.channels_out());
    from_channels_last(
        values,
        [sizes.batch, sizes.output[0], sizes.output[1], channels_out],
    )
}

impl BlockOps for Flex {
    fn bottleneck_train(tensors: BlockTensors<Self>, config: BlockConfig) -> Vec<FlexTensor> {
        Flex::bottleneck_forward(&tensors.into_lists().0, config).0
    }

    fn bottleneck_infer(mut tensors: BlockTensors<Self>, config: BlockConfig) -> FlexTensor {
        let next = match std::mem::replace(&mut tensors.next, NextTensors::None) {
            NextTensors::None => None,
            NextTensors::Pointwise(next) => Some(next),
        };
        let (inputs, running) = tensors.into_lists();
        match inputs[position::INPUT].dtype() {
            DType::F64 => evaluate::<f64>(&inputs, &running, next, config),
            _ => evaluate::<f32>(&inputs, &running, next, config),
        }
    }

    fn pointwise(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        is_transposed: bool,
        precision: Precision,
    ) -> FlexTensor {
        Flex::pointwise_forward([input, weight, bias], is_transposed, precision).0
    }

    fn sum_over_parts(vector: FlexTensor, batch: SharedBatch, is_gradient: bool) -> FlexTensor {
        match vector.dtype() {
            DType::F64 => sum_over_parts::<f64>(&vector, &batch, is_gradient),
            _ => sum_over_parts::<f32>(&vector, &batch, is_gradient),
        }
    }
}

fn sum_over_parts<T: Real>(
    vector: &FlexTensor,
    batch: &SharedBatch,
    is_gradient: bool,
) -> FlexTensor {
    let own = wide_values::<T>(vector);
    let sum = if is_gradient {
        batch.sum_gradients(own)
    } else {
        batch.sum(own)
    };
    dense::<T>(narrow(&sum), &[sum.len()])
}
