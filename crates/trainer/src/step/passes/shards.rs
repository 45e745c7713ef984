//! The shards of a batch: each is normalised with its own statistics, and what they contribute is added in one tree.
//!
//! A shard that does not fit the memory is computed in micro-batches, which are shards of the shard.

use burn::prelude::*;
use resnet_blocks::join;
use run_files::metrics::BatchLoss;

use crate::experiment::evaluate::read_terms;
use crate::experiment::model::Model;
use crate::ranks::batch_division::{equal_shards, micro_batches};
use crate::ranks::tree_sum::TreeSum;
use crate::step::block_checkpointing::{Forward, kl_sums_of_micro_batches};
use crate::step::gradient_sum::take_vector;
use crate::step::kl_objective::KlWeights;
use crate::step::passes::pass::{Inputs, PassOptions, Phase};
use crate::step::running_statistics::{statistics_vector, with_statistics_vector};

/// What several shards contribute to a step.
pub(crate) struct ShardSum {
    pub(crate) loss: BatchLoss,
    /// All gradients of the mean loss and then all running statistics after the step, in the order of the module; each weighted with
    /// the shards' share of the batch.
    pub(crate) vector: Tensor<1>,
}

impl ShardSum {
    /// The sum of two neighbours in the tree.
    pub(crate) fn and(self, right: Self) -> Self {
        let mut loss = self.loss;
        loss.add(right.loss);
        Self {
            loss,
            vector: self.vector + right.vector,
        }
    }
}

/// Computes the shards that a device has of a step over `batch` images: `inputs` are theirs, all of them. The model's own running
/// statistics stay as they are.
///
/// The penalties are the same in each shard and the shares sum to 1 over a step, so they count once.
///
/// # Errors
/// What `ended` gives, which is called at the end of each phase of each pass.
///
/// # Panics
/// If there is no image.
pub(crate) fn sum_of_shards<E>(
    model: &Model,
    (inputs, shards): (&Inputs, usize),
    batch: usize,
    options: PassOptions,
    kl: &KlWeights,
    ended: &mut impl FnMut(Phase) -> Result<(), E>,
) -> Result<ShardSum, E> {
    let before = statistics_vector(model);
    let pass = |inputs: Inputs, images| {
        let share = images as f64 / batch as f64;
        // Every micro-batch begins with the same running statistics.
        let model = with_statistics_vector(model.clone(), before.clone());
        let inputs = inputs.forward(options.sampler);
        let forward = Forward::new(&model, inputs, options.gradient_checkpointing);
        let loss = read_terms(forward.terms());
        ended(Phase::Forward)?;
        // Also where the loss is not finite: others wait for what this shard contributes.
        let mut gradients = forward.backward_weighted(&model, kl);
        let vector = vec![
            take_vector(&model, &mut gradients),
            statistics_vector(&model),
        ];
        let vector = join(vector, 0).mul_scalar(share);
        ended(Phase::Backward)?;
        Ok(ShardSum { loss, vector })
    };
    let micro_batch_size = options.micro_batch_size;
    let sum = sum_in_tree((inputs, shards), micro_batch_size, pass, ShardSum::and)?;
    // Whether the step will be taken is not known yet.
    drop(with_statistics_vector(model.clone(), before));
    Ok(sum)
}

/// What all micro-batches of these shards contribute, added in the tree: a shard's in one of its own, and then the shards'. `of` gets a micro-batch and
/// how many images it has.
///
/// # Errors
/// What `of` gives.
///
/// # Panics
/// If there is no image.
pub(crate) fn sum_in_tree<T, E>(
    (inputs, shards): (&Inputs, usize),
    micro_batch_size: Option<usize>,
    mut of: impl FnMut(Inputs, usize) -> Result<T, E>,
    and: impl Fn(T, T) -> T,
) -> Result<T, E> {
    let mut sum = TreeSum::new();
    for shard in equal_shards(inputs.len(), shards) {
        let inputs = inputs.slice(&shard);
        let mut of_shard = TreeSum::new();
        for micro_batch in micro_batches(shard.len(), micro_batch_size) {
            of_shard.add(of(inputs.slice(&micro_batch), micro_batch.len())?, &and);
        }
        let of_shard = of_shard.finish(&and);
        sum.add(of_shard.expect("a shard has images"), &and);
    }
    Ok(sum.finish(and).expect("there is a shard"))
}

/// The sum of two neighbours, number by number.
pub(crate) fn added(left: Vec<f64>, right: Vec<f64>) -> Vec<f64> {
    let pairs = left.iter().zip(right);
    pairs.map(|(left, right)| left + right).collect()
}

/// Each latent dimension's KL divergence summed over all images of these shards, which one device can encode in the micro-batches that
/// the step will compute them in.
pub(crate) fn kl_sums_of_shards(
    model: &Model,
    (inputs, shards): (&Inputs, usize),
    options: PassOptions,
) -> Vec<f64> {
    let mut sum = TreeSum::new();
    for shard in equal_shards(inputs.len(), shards) {
        let inputs = inputs.slice(&shard);
        let ranges = micro_batches(shard.len(), options.micro_batch_size).into_iter();
        let all = ranges.map(|range| inputs.slice(&range).forward(options.sampler));
        let mut of_shard = TreeSum::new();
        for sums in kl_sums_of_micro_batches(model, all) {
            of_shard.add(sums, added);
        }
        let of_shard = of_shard.finish(added);
        sum.add(of_shard.expect("a shard has images"), added);
    }
    sum.finish(added).expect("there is a shard")
}
