//! What tests of divided batches compare with: a small model, and its gradients by hand.

use std::ops::Range;

use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::{DType, Gradients};
use cifar_loader::Cifar10;
use run_files::metrics::BatchLoss;
use run_files::settings::{Precision, Settings};
use vae_core::{DropoutMasks, Sampler};

use crate::experiment::evaluate::read_terms;
use crate::experiment::model::{Model, ModelConfig, initial_model, model_config};
use crate::experiment::random::{Purpose, Stream};
use crate::step::passes::pass::Inputs;

/// Every gradient, flattened, in the order of the module.
struct Reader<'a>(&'a Gradients, Vec<Vec<f64>>);

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.0) {
            let data = gradient.into_data().convert_dtype(DType::F64);
            self.1.push(data.try_to_vec::<f64>().expect("float64"));
        }
    }
}

pub(crate) fn read(model: &Model, gradients: &Gradients) -> Vec<Vec<f64>> {
    let mut reader = Reader(gradients, Vec::new());
    model.visit(&mut reader);
    reader.1
}

pub(crate) fn model_and_inputs_on(
    images: u32,
    precision: Precision,
    device: Device,
) -> (Model, Inputs, ModelConfig) {
    let settings = Settings {
        depth: 28,
        width: 0.02,
        latent_dim: 4,
        intermediate_dim: 16,
        precision,
        ..Settings::default()
    };
    let config = model_config(&settings).expect("a model");
    let model = initial_model(&config, 3, &device);
    let sample = Cifar10::sample().expect("embedded").train();
    let batch = sample.batch(&(0..images).collect::<Vec<_>>());
    let count = images as usize;
    let draws = |purpose, features| {
        let stream = Stream::new(3, purpose, 0).standard_normal(count * features);
        Tensor::<2>::from_data(TensorData::new(stream, [count, features]), &device)
    };
    let dropout = DropoutMasks {
        encoder: draws(Purpose::Dropout, 256),
        decoder: draws(Purpose::EvaluationNoise, 16),
    };
    let inputs = Inputs {
        images: batch.to_tensor(&device).into(),
        noise: draws(Purpose::TrainingNoise, 4),
        dropout: Some(dropout),
    };
    (model, inputs, config)
}

/// Largest difference of two gradients in any tensor, relative to the tensor's norm. The gradient of a bias before a norm
/// is zero but for rounding, and so is its norm.
pub(crate) fn largest_difference(expected: &[Vec<f64>], found: &[Vec<f64>]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let pairs = expected.iter().zip(found);
    let differences = pairs.map(|(expected, found)| {
        let of_tensor = norm(&mut expected.iter().copied());
        let distance = norm(&mut expected.iter().zip(found).map(|(a, b)| a - b));
        distance / of_tensor.max(1.0)
    });
    differences.fold(0.0, f64::max)
}

/// By hand: each range of images by itself, the mean of its losses, and the mean over all images in float64; and the terms.
pub(crate) fn weighted_mean(
    model: &Model,
    inputs: &Inputs,
    ranges: &[Range<usize>],
) -> (Vec<Vec<f64>>, BatchLoss) {
    let mut expected: Vec<Vec<f64>> = Vec::new();
    let mut loss = BatchLoss::default();
    for range in ranges {
        let share = range.len() as f64 / inputs.len() as f64;
        let of_range = inputs.slice(range);
        let output = model.forward(
            of_range.images.tensor(),
            of_range.noise,
            Sampler::Correct,
            of_range.dropout,
        );
        loss.add(read_terms(&output.terms));
        let of_range = read(model, &output.terms.loss().mean().backward());
        expected.resize_with(of_range.len(), Vec::new);
        for (sum, values) in expected.iter_mut().zip(of_range) {
            sum.resize(values.len(), 0.0);
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += share * value;
            }
        }
    }
    (expected, loss)
}
