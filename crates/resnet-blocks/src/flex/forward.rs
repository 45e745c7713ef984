//! The forward pass of a whole bottleneck.
//!
//! Four passes over the batch, each parallel over its images, between which only statistics are combined:
//!
//! 1. the reduce product and its moments, and the moments of the shortcut's input;
//! 2. norm, ReLU and the 3x3 convolution, and its moments;
//! 3. the moments of the expand layer's input;
//! 4. norm, ReLU, expand and shortcut products with their norms folded in, sum and ReLU.
//!
//! What has the width of the output is written once, and only the narrow maps are kept for backward.

use burn_flex::FlexTensor;

use crate::flex::block::Layer;
use crate::flex::element::Real;
use crate::flex::layout::{channels_last, wide_values};
use crate::flex::passes::Forward;
use crate::flex::pointwise::NextLayer;
use crate::flex::spatial::Kernel;
use crate::flex::statistics::folded::{Folded, scaled_weight};
use crate::flex::statistics::moments::Moments;
use crate::flex::statistics::normalization::Normalization;
use crate::operation::{Around, BlockConfig, Sizes, position};
use crate::shared_batch::SharedBatch;

/// Mean (of the convolution with its bias) and variance of each norm, in the layers' order.
pub(crate) type Statistics = Vec<(Vec<f64>, Vec<f64>)>;

/// What backward needs.
pub(crate) struct Kept<T> {
    pub(crate) config: BlockConfig,
    pub(crate) sizes: Sizes,
    /// The batch that these images are a shard of, where they are not all of it.
    pub(crate) shared: Option<SharedBatch>,
    /// Positions of the output's size in the whole batch.
    pub(crate) positions: f64,
    /// `[batch, height, width, channels_in]`; none where `sampled` has what is needed.
    pub(crate) input: Option<FlexTensor>,
    /// The input's pixels that a stride samples.
    pub(crate) sampled: Vec<T>,
    /// Output of the reduce product, low resolution.
    pub(crate) reduced: Vec<T>,
    /// Output of the 3x3 convolution, without bias.
    pub(crate) spatial: Vec<T>,
    /// `[channels_out, channels_in]`
    pub(crate) reduce_weight: Vec<f64>,
    pub(crate) kernel: Kernel<T>,
    pub(crate) reduce_norm: Normalization,
    pub(crate) spatial_norm: Normalization,
    pub(crate) expand: Folded,
    pub(crate) shortcut: Option<Folded>,
}

impl<T: Real> Kept<T> {
    /// The low-resolution input of the reduce and shortcut products.
    pub(crate) fn low_input(&self) -> &[T] {
        self.input
            .as_ref()
            .map_or(&self.sampled, |input| input.storage::<T>())
    }
}

/// The block's output, its norms' statistics and what backward needs, in training.
pub(crate) fn train<T: Real>(
    config: BlockConfig,
    inputs: &[FlexTensor],
) -> (Vec<T>, Statistics, Kept<T>) {
    let forward = Forward::<T>::new(config, inputs);
    let sizes = forward.sizes;
    let shared = SharedBatch::present();
    let batch = shared.as_ref();
    let input = channels_last(inputs[position::INPUT].clone());
    let sampled = forward.sampled(input.storage::<T>());
    let low_input = if sizes.down == 1 {
        input.storage::<T>()
    } else {
        &sampled
    };

    let (reduced, moments, input_moments) = forward.reduce_and_measure(low_input);
    let moments = moments.shared(batch);
    let norm = |layer: &Layer, moments: &Moments, spread: f64, epsilon: f64| {
        Normalization::of_grid(
            &moments.mean,
            &moments.covariance(),
            spread,
            &layer.gamma,
            &layer.beta,
            epsilon,
        )
    };
    let reduce_norm = norm(
        &forward.layers[0],
        &moments,
        sizes.spread(),
        config.epsilon[0],
    );
    let (spatial, moments) = forward.spatial_and_measure(&reduced, &reduce_norm);
    let moments = moments.shared(batch);
    let spatial_norm = norm(&forward.layers[1], &moments, 1.0, config.epsilon[1]);
    let fold = |layer: usize, moments: Moments, spread: f64| {
        let Layer {
            weight,
            gamma,
            beta,
            ..
        } = &forward.layers[layer];
        Folded::train(
            weight.clone(),
            moments,
            spread,
            [gamma, beta],
            config.epsilon[layer],
            batch,
        )
    };
    let expand = fold(2, forward.expand_moments(&spatial, &spatial_norm), 1.0);
    let shortcut = input_moments.map(|moments| fold(3, moments, sizes.spread()));
    let output = forward.expand(
        low_input,
        &spatial,
        &spatial_norm,
        (expand.scaled_weight(), &expand.norm.shift),
        shortcut
            .as_ref()
            .map(|folded| (folded.scaled_weight(), folded.norm.shift.as_slice())),
        None,
    );

    let norms = [
        Some(&reduce_norm),
        Some(&spatial_norm),
        Some(&expand.norm),
        shortcut.as_ref().map(|folded| &folded.norm),
    ];
    let statistics = norms.into_iter().flatten().zip(&forward.layers);
    let statistics = statistics
        .map(|(norm, layer)| (layer.reported_mean(norm), norm.variance.clone()))
        .collect();
    let Forward {
        kernel, mut layers, ..
    } = forward;
    let own = sizes.batch * sizes.output_pixels();
    let kept = Kept {
        config,
        sizes,
        positions: batch.map_or(own, |batch| batch.positions(own)) as f64,
        shared,
        input: (sizes.down == 1).then_some(input),
        sampled,
        reduced,
        spatial,
        reduce_weight: std::mem::take(&mut layers[0].weight),
        kernel,
        reduce_norm,
        spatial_norm,
        expand,
        shortcut,
    };
    (output, statistics, kept)
}

/// The block's output, or that of the layer behind it, with given statistics: mean and variance of each norm, one after the other.
pub(crate) fn infer<T: Real>(
    config: BlockConfig,
    inputs: &[FlexTensor],
    running: &[FlexTensor],
    next: Option<&NextLayer<T>>,
) -> (Sizes, Vec<T>) {
    let forward = Forward::<T>::new(config, inputs);
    let input = channels_last(inputs[position::INPUT].clone());
    let sampled = forward.sampled(input.storage::<T>());
    let low_input = if forward.sizes.down == 1 {
        input.storage::<T>()
    } else {
        &sampled
    };
    let norms: Vec<Normalization> = forward
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let [mean, variance] =
                [0, 1].map(|which| wide_values::<T>(&running[2 * index + which]));
            let mean = mean
                .iter()
                .zip(&layer.bias)
                .map(|(mean, bias)| mean - bias)
                .collect();
            Normalization::of_statistics(
                mean,
                variance,
                &layer.gamma,
                &layer.beta,
                config.epsilon[index],
            )
        })
        .collect();
    let (reduced, _) = forward.reduce(low_input, |_, _| ());
    let (spatial, _) = forward.spatial(&reduced, &norms[0], |_| ());
    let folded = |layer: usize| {
        let norm: &Normalization = &norms[layer];
        (
            scaled_weight(&forward.layers[layer].weight, &norm.scale),
            norm.shift.as_slice(),
        )
    };
    let (weight, shift) = folded(2);
    let shortcut = (config.around == Around::Projection).then(|| folded(3));
    let output = forward.expand(
        low_input,
        &spatial,
        &norms[1],
        (weight, shift),
        shortcut,
        next,
    );
    (forward.sizes, output)
}
