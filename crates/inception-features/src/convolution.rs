//! A convolution with its batch normalisation folded in, and a rectified linear unit.

use burn::prelude::*;
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use crate::weights::{Weights, WeightsError};

/// Added to every running variance; TensorFlow's Inception has 0.001, not PyTorch's 0.00001.
const EPSILON: f64 = 1e-3;

/// How far the kernel moves, and whether it may stand over the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// One pixel a step, as many outputs as inputs.
    Same,
    /// This many pixels a step, never over the edge.
    Inside(usize),
}

/// What a convolution is called in files, and its sizes.
#[derive(Clone, Debug)]
pub(crate) struct ConvolutionPlan {
    pub(crate) name: String,
    /// Channels that it takes and gives.
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Height and width.
    pub(crate) kernel: [usize; 2],
    pub(crate) steps: Steps,
}

impl ConvolutionPlan {
    /// Names and shapes of its tensors: kernel; scale, shift, running mean and running variance of the normalisation.
    pub(crate) fn tensors(&self) -> [(String, Vec<usize>); 5] {
        let [height, width] = self.kernel;
        let of_channels = |part: &str| (format!("{}.bn.{part}", self.name), vec![self.output]);
        [
            (
                format!("{}.conv.weight", self.name),
                vec![self.output, self.input, height, width],
            ),
            of_channels("weight"),
            of_channels("bias"),
            of_channels("running_mean"),
            of_channels("running_var"),
        ]
    }
}

/// Convolution, normalisation by running statistics, and ReLU.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    weight: Tensor<4>,
    bias: Tensor<1>,
    steps: Steps,
    kernel: [usize; 2],
}

impl Convolution {
    /// Reads the convolution's tensors and folds the normalisation into the kernel, in float64.
    pub(crate) fn new(
        plan: ConvolutionPlan,
        weights: &Weights,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let tensors = plan.tensors();
        let values = |index: usize| {
            let (name, shape): &(String, Vec<usize>) = &tensors[index];
            weights.get(name, shape)
        };
        let (kernel, scale, shift) = (values(0)?, values(1)?, values(2)?);
        let (mean, variance) = (values(3)?, values(4)?);
        let factors: Vec<f64> = scale
            .iter()
            .zip(variance)
            .map(|(scale, variance)| f64::from(*scale) / (f64::from(*variance) + EPSILON).sqrt())
            .collect();
        let folded: Vec<f32> = kernel
            .chunks(kernel.len() / plan.output)
            .zip(&factors)
            .flat_map(|(kernel, factor)| {
                kernel
                    .iter()
                    .map(move |value| (f64::from(*value) * factor) as f32)
            })
            .collect();
        let bias: Vec<f32> = shift
            .iter()
            .zip(mean)
            .zip(&factors)
            .map(|((shift, mean), factor)| (f64::from(*shift) - f64::from(*mean) * factor) as f32)
            .collect();
        let [(_, shape), ..] = &tensors;
        Ok(Self {
            weight: Tensor::from_data(TensorData::new(folded, shape.clone()), device),
            bias: Tensor::from_data(TensorData::new(bias, [plan.output]), device),
            steps: plan.steps,
            kernel: plan.kernel,
        })
    }

    /// `[batch, input, height, width]` to `[batch, output, height, width]`
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let (stride, padding) = match self.steps {
            Steps::Same => (1, self.kernel.map(|size| size / 2)),
            Steps::Inside(stride) => (stride, [0, 0]),
        };
        let options = ConvOptions::new([stride; 2], padding, [1; 2], 1);
        relu(conv2d(
            images,
            self.weight.clone(),
            Some(self.bias.clone()),
            options,
        ))
    }
}
