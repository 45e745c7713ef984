//! The backward pass of a whole bottleneck.
//!
//! Four passes over the batch, the mirror image of [`forward`](crate::flex::forward): activations are recomputed from the
//! narrow maps by scale and shift. The output's gradient is read once:
//!
//! 1. the last ReLU, and all products with the masked gradient: those that give the gradients of expand and shortcut and
//!    those that lead to their inputs, whose norms' corrections follow once the sums over the batch are known;
//! 2. the correction of expand's input gradient, and the ReLU behind the 3x3 convolution;
//! 3. its norm, the 3x3 convolution's weights and input, and the ReLU before it;
//! 4. its norm, the reduce product's weights and input, and the shortcut's correction.

mod reduce;
mod spatial;
mod sums;
mod tail;

use burn_flex::FlexTensor;

use crate::flex::backward::reduce::GradientAround;
use crate::flex::backward::sums::Backward;
use crate::flex::block::Affine;
use crate::flex::element::{Real, narrow, transpose};
use crate::flex::forward::Kept;
use crate::flex::layout::{channels_last, dense};
use crate::flex::partition::Partition;
use crate::flex::spatial::Kernel;
use crate::operation::{Around, position};

/// The gradients of all inputs, in their order; that of the image batch only where it is wanted.
///
/// - output: of the block, `[batch, height, width, channels_out]`
/// - gradient: of the output, `[batch, channels_out, height, width]`
pub(crate) fn backward<T: Real>(
    kept: &Kept<T>,
    output: &FlexTensor,
    gradient: FlexTensor,
    is_input_wanted: bool,
) -> Vec<Option<FlexTensor>> {
    let sizes = kept.sizes;
    let backward = Backward {
        kept,
        sizes,
        partition: Partition::new(sizes.batch, sizes.output_pixels()),
        is_input_wanted,
        reduce: Affine::new(&kept.reduce_norm),
        spatial: Affine::new(&kept.spatial_norm),
    };
    let mut gradient = channels_last(gradient);
    let mut tail = backward.tail(output.storage::<T>(), &mut gradient);
    let expand = kept
        .expand
        .gradient(&tail.expand_products, &tail.sums, &tail.sums);
    let shortcut = kept
        .shortcut
        .as_ref()
        .map(|folded| folded.gradient(&tail.shortcut_products, &tail.grid_sums, &tail.sums));

    let spatial = backward.expand_input(&expand, &mut tail.expand_input);
    let reduce = backward.spatial(&spatial, &tail.expand_input);
    let around = match kept.config.around {
        // The masked gradient itself.
        Around::Identity => GradientAround::Identity(gradient),
        Around::Projection => GradientAround::Projection(tail.shortcut_input),
        Around::Nothing => GradientAround::Nothing,
    };
    let (reduce_weight, input) = backward.reduce(&reduce, around, shortcut.as_ref());

    let (inner, channels_out) = (sizes.width, sizes.channels_out);
    let pointwise = |values: Vec<f64>, outputs: usize, inputs: usize, is_exchanged: bool| {
        if is_exchanged {
            dense::<T>(
                narrow(&transpose(&values, outputs, inputs)),
                &[inputs, outputs, 1, 1],
            )
        } else {
            dense::<T>(narrow(&values), &[outputs, inputs, 1, 1])
        }
    };
    // A bias before a norm has no influence.
    let vectors = |gamma: &[f64], beta: &[f64]| {
        [&vec![0.0; gamma.len()], gamma, beta]
            .map(|values| dense::<T>(narrow(values), &[values.len()]))
    };
    let is_exchanged = kept.config.is_transposed;
    let mut gradients = vec![pointwise(
        reduce_weight,
        inner,
        sizes.channels_in,
        is_exchanged,
    )];
    gradients.extend(vectors(&reduce.norm.gamma, &reduce.norm.beta));
    let kernel = Kernel::<T>::restore(&reduce.kernel, inner);
    gradients.push(dense::<T>(narrow(&kernel), &[inner, inner, 3, 3]));
    gradients.extend(vectors(&spatial.gamma, &spatial.beta));
    gradients.push(pointwise(expand.weight, channels_out, inner, false));
    gradients.extend(vectors(&expand.gamma, &expand.beta));
    if let Some(shortcut) = shortcut {
        gradients.push(pointwise(
            shortcut.weight,
            channels_out,
            sizes.channels_in,
            is_exchanged,
        ));
        gradients.extend(vectors(&shortcut.gamma, &shortcut.beta));
    }
    debug_assert_eq!(gradients.len() % 4, 0);
    let mut all = Vec::with_capacity(position::REDUCE + gradients.len());
    all.push(input);
    all.extend(gradients.into_iter().map(Some));
    all
}
