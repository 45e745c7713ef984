//! The Bernoulli cross-entropy and its gradient in one pass.

use cubecl::prelude::*;

use super::{UNITS, cube_sum};

/// Adds the output layer's bias to the logits, sums each image's cross-entropy, and writes the gradient of its mean over the batch. A cube an image.
///
/// Logits, pixels and gradient have channels last.
#[cube(launch_unchecked)]
pub(crate) fn bernoulli<F: Float>(
    logits: &[f32],
    bias: &[f32],
    pixels: &[f32],
    gradient: &mut [F],
    cross_entropy: &mut [f32],
    values: usize,
    channels: usize,
    reciprocal: f32,
    #[define(F)] _elem: ElemType,
) {
    let image = CUBE_POS;
    let mut sum = 0.0f32;
    let mut value = UNIT_POS as usize;
    while value < values {
        let position = image * values + value;
        let logit = logits[position] + bias[position % channels];
        let pixel = pixels[position];
        // exp of what is not positive: no overflow.
        let small = (0.0f32 - logit.abs()).exp();
        sum += max_nan(logit, 0.0f32) - logit * pixel + small.log1p();
        let mut above = small;
        if logit >= 0.0f32 {
            above = 1.0f32;
        }
        let slope = above / (1.0f32 + small) - pixel;
        gradient[position] = F::cast_from(slope * reciprocal);
        value += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        cross_entropy[image] = sum;
    }
}
