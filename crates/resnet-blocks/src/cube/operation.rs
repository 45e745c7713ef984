//! The operations on CubeCL's backends.

use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::prelude::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::operation::{
    BlockConfig, BlockKernels, BlockOps, BlockTensors, Kept, KeptOperation, position,
};
use crate::precision::Precision;
use crate::shared_batch::SharedBatch;

use super::backward::Inputs;
use super::forward::{self, infer, train};
use super::pointwise::Pointwise;
use super::tensors::{Maker, vector};

struct KeptBottleneck {
    kept: forward::Kept,
    inputs: Inputs,
}

impl KeptOperation<CubeBackend> for KeptBottleneck {
    fn backward(&self, gradient: CubeTensor, is_input_wanted: bool) -> Vec<Option<CubeTensor>> {
        self.kept.backward(gradient, &self.inputs, is_input_wanted)
    }
}

struct KeptPointwise {
    layer: Pointwise,
    shapes: [Shape; 3],
}

impl KeptOperation<CubeBackend> for KeptPointwise {
    fn backward(&self, gradient: CubeTensor, is_input_wanted: bool) -> Vec<Option<CubeTensor>> {
        self.layer
            .gradients(gradient, &self.shapes, is_input_wanted)
            .into()
    }
}

impl BlockKernels for CubeBackend {
    fn bottleneck_forward(
        inputs: &[CubeTensor],
        config: BlockConfig,
    ) -> (Vec<CubeTensor>, Kept<Self>) {
        let (kept, moments) = train(config, inputs);
        let maker = Maker::like(&inputs[position::INPUT]);
        let mut outputs =
            vec![maker.images(kept.output.clone(), kept.sizes.batch, kept.sizes.output)];
        for (index, norm) in moments.into_iter().enumerate() {
            let channels = [norm.mean.len];
            let bias = inputs[position::REDUCE + 4 * index + 1].clone();
            outputs.push(Self::float_add(maker.vector(norm.mean, channels), bias));
            outputs.push(maker.vector(norm.variance, channels));
        }
        let inputs = Inputs::of(inputs);
        (outputs, Kept(Arc::new(KeptBottleneck { kept, inputs })))
    }

    fn pointwise_forward(
        [input, weight, bias]: [CubeTensor; 3],
        is_transposed: bool,
        precision: Precision,
    ) -> (CubeTensor, Kept<Self>) {
        let maker = Maker::like(&input);
        let shapes = [input.shape(), weight.shape(), bias.shape()];
        let bias = vector(bias);
        let layer = Pointwise::new(&input, &weight, bias.len, is_transposed, precision);
        let output = maker.images(
            layer.forward(&bias),
            shapes[0][0],
            [shapes[0][2], shapes[0][3]],
        );
        (output, Kept(Arc::new(KeptPointwise { layer, shapes })))
    }
}

impl BlockOps for CubeBackend {
    fn bottleneck_train(tensors: BlockTensors<Self>, config: BlockConfig) -> Vec<CubeTensor> {
        Self::bottleneck_forward(&tensors.into_lists().0, config).0
    }

    fn bottleneck_infer(tensors: BlockTensors<Self>, config: BlockConfig) -> CubeTensor {
        let (inputs, running) = tensors.into_lists();
        let maker = Maker::like(&inputs[position::INPUT]);
        let (sizes, output) = infer(config, &inputs, &running);
        maker.images(output, sizes.batch, sizes.output)
    }

    fn pointwise(
        input: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        is_transposed: bool,
        precision: Precision,
    ) -> CubeTensor {
        Self::pointwise_forward([input, weight, bias], is_transposed, precision).0
    }

    fn sum_over_parts(_: CubeTensor, _: SharedBatch, _: bool) -> CubeTensor {
        panic!("a batch is shared on flex alone: see `SharedBatch::is_known`")
    }
}
