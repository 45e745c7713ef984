//! Discretised logistics and their mixtures: the negative log-probability of each image, and its gradient, in one pass.

use cubecl::prelude::*;

use super::level::{Known, Level, known, level};
use super::{UNITS, cube_sum};

/// Less than every logarithm of a probability.
const LOWEST: f32 = -3.0e38;

/// A logistic for every value. Adds the output layer's bias to the map, sums each image's negative log-probability, and writes the gradient of its
/// mean over the batch. A cube an image.
///
/// The map has the means of all channels and then their log-scales, channels last.
#[cube(launch_unchecked)]
pub(crate) fn logistic<F: Float>(
    map: &[f32],
    bias: &[f32],
    pixels: &[f32],
    gradient: &mut [F],
    nll: &mut [f32],
    positions: usize,
    channels: usize,
    reciprocal: f32,
    #[define(F)] _elem: ElemType,
) {
    let image = CUBE_POS;
    let mut sum = 0.0f32;
    let mut value = UNIT_POS as usize;
    while value < positions * channels {
        let row = image * positions + value / channels;
        let channel = value % channels;
        let of_mean = 2 * channels * row + channel;
        let of_scale = of_mean + channels;
        let pixel = known(pixels[channels * row + channel]);
        let found = level(
            &pixel,
            map[of_mean] + bias[channel],
            map[of_scale] + bias[channels + channel],
        );
        sum -= found.log;
        gradient[of_mean] = F::cast_from(0.0f32 - found.by_mean * reciprocal);
        gradient[of_scale] = F::cast_from(0.0f32 - found.by_log_scale * reciprocal);
        value += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        nll[image] = sum;
    }
}

/// Where a component's parameter of one colour is among a pixel's channels: behind the logits of all components, for each colour the means, the
/// log-scales and one raw coefficient of each component. `part` is 0, 1 and 2 for these.
#[cube]
fn channel(colour: usize, part: usize, component: usize, components: usize) -> usize {
    (1 + 3 * colour + part) * components + component
}

#[cube]
fn read(map: &[f32], bias: &[f32], start: usize, at: usize) -> f32 {
    map[start + at] + bias[at]
}

/// The level of one colour under a component whose mean is shifted by what is known of the colours before.
#[cube]
fn of_colour(
    map: &[f32],
    bias: &[f32],
    start: usize,
    colour: usize,
    component: usize,
    components: usize,
    pixel: &Known,
    shift: f32,
) -> Level {
    let mean = read(map, bias, start, channel(colour, 0, component, components));
    let log_scale = read(map, bias, start, channel(colour, 1, component, components));
    level(pixel, mean + shift, log_scale)
}

/// The hyperbolic tangent of a raw coefficient: of green on red, blue on red, and blue on green.
#[cube]
fn coefficient(
    map: &[f32],
    bias: &[f32],
    start: usize,
    index: usize,
    component: usize,
    components: usize,
) -> f32 {
    read(map, bias, start, channel(index, 2, component, components)).tanh()
}

/// A mixture of logistics for each pixel, green depending on red, and blue on both (Salimans et al. 2017). As [`logistic`].
#[cube(launch_unchecked)]
pub(crate) fn mixture<F: Float>(
    map: &[f32],
    bias: &[f32],
    pixels: &[f32],
    gradient: &mut [F],
    nll: &mut [f32],
    positions: usize,
    components: usize,
    reciprocal: f32,
    #[define(F)] _elem: ElemType,
) {
    let image = CUBE_POS;
    let mut sum = 0.0f32;
    let mut position = UNIT_POS as usize;
    while position < positions {
        let row = image * positions + position;
        let start = row * 10 * components;
        let red = known(pixels[3 * row]);
        let green = known(pixels[3 * row + 1]);
        let blue = known(pixels[3 * row + 2]);

        // The logarithms of the sums of exponentials, of the components' joint probabilities with their logits and of these alone.
        let mut joint_largest = f32::cast_from(LOWEST);
        let mut joint_sum = 0.0f32;
        let mut logit_largest = f32::cast_from(LOWEST);
        let mut logit_sum = 0.0f32;
        let mut component = 0usize;
        while component < components {
            let logit = read(map, bias, start, component);
            let green_red = coefficient(map, bias, start, 0, component, components);
            let blue_red = coefficient(map, bias, start, 1, component, components);
            let blue_green = coefficient(map, bias, start, 2, component, components);
            let of_red = of_colour(map, bias, start, 0, component, components, &red, 0.0f32);
            let shift = green_red * red.signed;
            let of_green = of_colour(map, bias, start, 1, component, components, &green, shift);
            let shift = blue_red * red.signed + blue_green * green.signed;
            let of_blue = of_colour(map, bias, start, 2, component, components, &blue, shift);
            let joint = logit + of_red.log + of_green.log + of_blue.log;

            let largest = select(joint > joint_largest, joint, joint_largest);
            joint_sum = joint_sum * (joint_largest - largest).exp() + (joint - largest).exp();
            joint_largest = largest;
            let largest = select(logit > logit_largest, logit, logit_largest);
            logit_sum = logit_sum * (logit_largest - largest).exp() + (logit - largest).exp();
            logit_largest = largest;
            component += 1;
        }
        sum -= (joint_largest + joint_sum.ln()) - (logit_largest + logit_sum.ln());

        // Everything again is cheaper than to keep it.
        let mut component = 0usize;
        while component < components {
            let logit = read(map, bias, start, component);
            let green_red = coefficient(map, bias, start, 0, component, components);
            let blue_red = coefficient(map, bias, start, 1, component, components);
            let blue_green = coefficient(map, bias, start, 2, component, components);
            let of_red = of_colour(map, bias, start, 0, component, components, &red, 0.0f32);
            let shift = green_red * red.signed;
            let of_green = of_colour(map, bias, start, 1, component, components, &green, shift);
            let shift = blue_red * red.signed + blue_green * green.signed;
            let of_blue = of_colour(map, bias, start, 2, component, components, &blue, shift);
            let joint = logit + of_red.log + of_green.log + of_blue.log;

            let weight = (joint - joint_largest).exp() / joint_sum;
            let share = (logit - logit_largest).exp() / logit_sum;
            gradient[start + component] = F::cast_from((share - weight) * reciprocal);
            let weight = 0.0f32 - weight * reciprocal;
            let at = start + channel(0, 0, component, components);
            gradient[at] = F::cast_from(weight * of_red.by_mean);
            gradient[at + components] = F::cast_from(weight * of_red.by_log_scale);
            let of_tanh = of_green.by_mean * red.signed;
            let slope = of_tanh * (1.0f32 - green_red * green_red);
            gradient[at + 2 * components] = F::cast_from(weight * slope);
            let at = start + channel(1, 0, component, components);
            gradient[at] = F::cast_from(weight * of_green.by_mean);
            gradient[at + components] = F::cast_from(weight * of_green.by_log_scale);
            let of_tanh = of_blue.by_mean * red.signed;
            let slope = of_tanh * (1.0f32 - blue_red * blue_red);
            gradient[at + 2 * components] = F::cast_from(weight * slope);
            let at = start + channel(2, 0, component, components);
            gradient[at] = F::cast_from(weight * of_blue.by_mean);
            gradient[at + components] = F::cast_from(weight * of_blue.by_log_scale);
            let of_tanh = of_blue.by_mean * green.signed;
            let slope = of_tanh * (1.0f32 - blue_green * blue_green);
            gradient[at + 2 * components] = F::cast_from(weight * slope);
            component += 1;
        }
        position += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        nll[image] = sum;
    }
}
