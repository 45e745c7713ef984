//! A pass that keeps the input of every block and nothing inside one (Chen et al. 2016): backward computes each block again.
//!
//! Burn's own gradient checkpointing computes cheap operations again, which is less: the outputs of convolutions and norms
//! stay. The price here is a second forward pass of all blocks.

use burn::module::{ModuleMapper, Param};
use burn::prelude::*;
use burn::tensor::Gradients;
use resnet_blocks::{mean_in_fixed_order, sum_in_fixed_order};
use vae_core::{DiagonalGaussian, DropoutMasks, LossTerms, Sampler, Segment, VaeOutput};

use crate::experiment::model::Model;
use crate::step::gradient_sum::merge_gradients;
use crate::step::kl_objective::{KlWeights, kl_sums};
use crate::step::running_statistics::RunningStatistics;

/// A forward pass whose backward pass is still to come.
pub(crate) enum Forward {
    /// Everything that backward needs has been kept.
    Kept(Box<VaeOutput>),
    /// Backward computes the blocks again.
    Recomputing(Box<Recomputing>),
}

/// What a forward pass needs besides the model.
#[derive(Clone)]
pub(crate) struct ForwardInputs {
    /// `[batch, 3, 32, 32]`, on the autodiff device
    pub(crate) images: Tensor<4>,
    /// `[batch, latent_dim]`
    pub(crate) noise: Tensor<2>,
    pub(crate) dropout: Option<DropoutMasks>,
    pub(crate) sampler: Sampler,
}

impl Forward {
    /// Makes the forward pass.
    pub(crate) fn new(model: &Model, inputs: ForwardInputs, gradient_checkpointing: bool) -> Self {
        if gradient_checkpointing {
            return Self::Recomputing(Box::new(Recomputing::new(model, inputs)));
        }
        let ForwardInputs {
            images,
            noise,
            dropout,
            sampler,
        } = inputs;
        Self::Kept(Box::new(model.forward(images, noise, sampler, dropout)))
    }

    /// The loss, term by term; each `[batch]`.
    pub(crate) fn terms(&self) -> &LossTerms {
        match self {
            Self::Kept(output) => &output.terms,
            Self::Recomputing(pass) => &pass.terms,
        }
    }

    /// Each latent dimension's KL divergence, summed over the images.
    pub(crate) fn kl_sums(&self) -> Vec<f64> {
        kl_sums(match self {
            Self::Kept(output) => &output.posterior,
            Self::Recomputing(pass) => &pass.posterior,
        })
    }

    /// The gradients of the mean loss.
    pub(crate) fn backward(self, model: &Model) -> Gradients {
        self.backward_weighted(model, &KlWeights::One)
    }

    /// The gradients of the mean loss with the KL divergence weighted.
    pub(crate) fn backward_weighted(self, model: &Model, kl: &KlWeights) -> Gradients {
        match self {
            Self::Kept(output) => {
                let terms = &output.terms;
                let loss = match kl {
                    KlWeights::One => terms.loss(),
                    _ => {
                        let weighted = kl.of(&output.posterior, terms.kl.clone());
                        terms.cross_entropy.clone() + weighted + terms.l2.clone()
                    }
                };
                let loss = mean_in_fixed_order(loss);
                drop(output);
                loss.backward()
            }
            Self::Recomputing(pass) => pass.backward(model, kl),
        }
    }
}

/// The inputs of all segments of the model, from a pass without gradients.
pub(crate) struct Recomputing {
    inputs: ForwardInputs,
    encoder: Vec<Tensor<4>>,
    /// Of the layers between the two sides' blocks.
    middle: Tensor<4>,
    decoder: Vec<Tensor<4>>,
    /// Of the output layer: a leaf, whose gradient starts the way back.
    last: Tensor<4>,
    terms: LossTerms,
    /// Without a graph.
    posterior: DiagonalGaussian,
}

/// Each latent dimension's KL divergence, summed over the images of each micro-batch, as a training pass over it would encode
/// them; the running statistics stay.
pub(crate) fn kl_sums_of_micro_batches(
    model: &Model,
    micro_batches: impl Iterator<Item = ForwardInputs>,
) -> Vec<Vec<f64>> {
    let statistics = RunningStatistics::read(model);
    let untracked = model.clone().map(&mut Untracked);
    let sums = micro_batches.map(|inputs| {
        let (encoder_mask, _) = masks(&inputs.dropout);
        kl_sums(&encoded(&untracked, inputs.images, encoder_mask))
    });
    let sums = sums.collect();
    drop(statistics.restore(model.clone()));
    sums
}

/// The posterior of a training pass.
fn encoded(model: &Model, images: Tensor<4>, mask: Option<Tensor<2>>) -> DiagonalGaussian {
    let segments = model.segments();
    let maps = segments
        .encoder
        .iter()
        .fold(images, |maps, segment| segment(maps));
    (segments.posterior)(maps, mask)
}

/// Applies segments; the inputs of all, and the output.
fn through(segments: &[Segment<'_>], mut maps: Tensor<4>) -> (Vec<Tensor<4>>, Tensor<4>) {
    let mut inputs = Vec::new();
    for segment in segments {
        inputs.push(maps.clone());
        maps = segment(maps);
    }
    (inputs, maps)
}

fn masks(dropout: &Option<DropoutMasks>) -> (Option<Tensor<2>>, Option<Tensor<2>>) {
    let of = |mask: fn(&DropoutMasks) -> &Tensor<2>| dropout.as_ref().map(|all| mask(all).clone());
    (of(|all| &all.encoder), of(|all| &all.decoder))
}

/// Parameters without gradients. Not `Module::no_grad`: on a clone of a parameter that has not been initialised yet it takes
/// the gradient from the original too.
struct Untracked;

impl ModuleMapper for Untracked {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = Tensor::from_inner(param.val().inner());
        Param::initialized(param.id, value)
    }
}

impl Recomputing {
    fn new(model: &Model, inputs: ForwardInputs) -> Self {
        // The same running statistics, which this pass updates, and no graph.
        let untracked = model.clone().map(&mut Untracked);
        let (encoder_mask, decoder_mask) = masks(&inputs.dropout);
        let segments = untracked.segments();
        let (encoder, middle) = through(&segments.encoder, inputs.images.clone());
        let posterior = (segments.posterior)(middle.clone(), encoder_mask);
        let latent = posterior.draw(inputs.sampler, inputs.noise.clone());
        let first = (segments.first_maps)(latent, decoder_mask);
        let (decoder, last) = through(&segments.decoder, first);
        let last = last.require_grad();
        let map = (model.segments().output)(last.clone());
        let [batch, ..] = inputs.images.dims();
        let terms = LossTerms {
            cross_entropy: model.nll(map, inputs.images.clone()),
            kl: posterior.kl_to_standard_normal(),
            l2: untracked.penalty().expand([batch]),
        };
        drop(segments);
        Self {
            inputs,
            encoder,
            middle,
            decoder,
            last,
            terms,
            posterior,
        }
    }

    fn backward(self, model: &Model, kl: &KlWeights) -> Gradients {
        let Self {
            inputs,
            encoder,
            middle,
            decoder,
            last,
            terms,
            posterior: _,
        } = self;
        // What is computed again updates the running statistics again.
        let statistics = RunningStatistics::read(model);
        let mut all = mean_in_fixed_order(terms.cross_entropy).backward();
        let mut gradient = last
            .grad_remove(&mut all)
            .expect("the output layer's input is a leaf");
        drop(last);
        let segments = model.segments();
        for (segment, maps) in segments.decoder.iter().zip(decoder).rev() {
            gradient = back_through(model, &mut all, maps, gradient, segment);
        }
        let (encoder_mask, decoder_mask) = masks(&inputs.dropout);
        let [batch, ..] = inputs.images.dims();
        let maps = middle.require_grad();
        let posterior = (segments.posterior)(maps.clone(), encoder_mask);
        let latent = posterior.draw(inputs.sampler, inputs.noise.clone());
        let first = (segments.first_maps)(latent, decoder_mask);
        let weighted = kl.of(&posterior, posterior.kl_to_standard_normal());
        let own = weighted + model.penalty().expand([batch]);
        // In this order the gradients of the log-variance are added as in an ordinary pass, to the bit.
        let loss = weighted_sum(first, gradient) + mean_in_fixed_order(own);
        let mut of_middle = loss.backward();
        gradient = maps
            .grad_remove(&mut of_middle)
            .expect("the maps between both sides are a leaf");
        merge_gradients(model, &mut all, of_middle);
        drop(maps);
        for (segment, maps) in segments.encoder.iter().zip(encoder).rev() {
            gradient = back_through(model, &mut all, maps, gradient, segment);
        }
        drop(statistics.restore(model.clone()));
        all
    }
}

/// The scalar whose gradient by `maps` is `gradient`.
fn weighted_sum(maps: Tensor<4>, gradient: Tensor<4>) -> Tensor<1> {
    sum_in_fixed_order(maps * gradient)
}

/// Computes a segment again and goes back through it: its parameters' gradients go to `all`, that of its input is returned.
fn back_through(
    model: &Model,
    all: &mut Gradients,
    input: Tensor<4>,
    gradient: Tensor<4>,
    segment: &Segment<'_>,
) -> Tensor<4> {
    let input = input.require_grad();
    let output = segment(input.clone());
    let mut of_segment = weighted_sum(output, gradient).backward();
    let gradient = input
        .grad_remove(&mut of_segment)
        .expect("a segment's input is a leaf");
    merge_gradients(model, all, of_segment);
    gradient
}
