//! Distributions that every value of an image has for itself: each image's negative log-probability and its gradient, in one pass.

use cubecl::prelude::*;

use super::bernoulli::{bernoulli, renormalised_bernoulli};
use super::gaussian::gaussian;
use super::log_probability::known;
use super::logistic::logistic;
use super::{UNITS, cube_sum};

/// Which distribution; numbers, as a kernel's compile-time arguments are.
pub(crate) const BERNOULLI: u32 = 0;
pub(crate) const RENORMALISED_BERNOULLI: u32 = 1;
pub(crate) const LOGISTIC: u32 = 2;
pub(crate) const GAUSSIAN: u32 = 3;

/// Where the scale comes from: there is none, it is in the map behind all means, or each colour has one.
pub(crate) const NO_SCALE: u32 = 0;
pub(crate) const SCALE_OF_VALUE: u32 = 1;
pub(crate) const SCALE_OF_COLOUR: u32 = 2;

/// Adds the output layer's bias to the map, sums each image's negative log-probability (cross-entropy), and writes the gradient of its mean over the
/// batch. A cube an image.
///
/// All maps have channels last. `log_scales` is read, and `scale_gradient` written, where each colour has a scale: a value for each of the pixels'.
#[cube(launch_unchecked)]
pub(crate) fn negative_log_probability<F: Float>(
    map: &[f32],
    bias: &[f32],
    log_scales: &[f32],
    pixels: &[f32],
    gradient: &mut [F],
    scale_gradient: &mut [f32],
    nll: &mut [f32],
    positions: usize,
    channels: usize,
    reciprocal: f32,
    #[comptime] distribution: u32,
    #[comptime] scale: u32,
    #[define(F)] _elem: ElemType,
) {
    let image = CUBE_POS;
    let columns = if comptime!(scale == SCALE_OF_VALUE) {
        2 * channels
    } else {
        channels
    };
    let mut sum = 0.0f32;
    let mut value = UNIT_POS as usize;
    while value < positions * channels {
        let row = image * positions + value / channels;
        let channel = value % channels;
        let at = columns * row + channel;
        let parameter = map[at] + bias[channel];
        let log_scale = if comptime!(scale == SCALE_OF_VALUE) {
            map[at + channels] + bias[channels + channel]
        } else if comptime!(scale == SCALE_OF_COLOUR) {
            log_scales[channel]
        } else {
            f32::cast_from(0.0f32)
        };
        let of_pixel = channels * row + channel;
        let pixel = pixels[of_pixel];
        let found = if comptime!(distribution == GAUSSIAN) {
            gaussian(&known(pixel), parameter, log_scale)
        } else if comptime!(distribution == LOGISTIC) {
            logistic(&known(pixel), parameter, log_scale)
        } else if comptime!(distribution == RENORMALISED_BERNOULLI) {
            renormalised_bernoulli(pixel, parameter)
        } else {
            bernoulli(pixel, parameter)
        };
        sum -= found.value;
        gradient[at] = F::cast_from(0.0f32 - found.by_mean * reciprocal);
        let of_scale = 0.0f32 - found.by_log_scale * reciprocal;
        if comptime!(scale == SCALE_OF_VALUE) {
            gradient[at + channels] = F::cast_from(of_scale);
        }
        if comptime!(scale == SCALE_OF_COLOUR) {
            scale_gradient[of_pixel] = of_scale;
        }
        value += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        nll[image] = sum;
    }
}
