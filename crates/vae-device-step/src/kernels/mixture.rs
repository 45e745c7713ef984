//! Mixtures of discretised logistics: the negative log-probability of each image, and its gradient, in one pass.

use cubecl::prelude::*;

use super::log_probability::{Known, LogProbability, known};
use super::logistic::logistic;
use super::{UNITS, cube_sum};

/// Less than every logarithm of a probability.
const LOWEST: f32 = -3.0e38;

/// Where a component's parameter of one colour is among a pixel's channels: behind the logits of all components, for each colour the means, the
/// log-scales and one raw coefficient of each component. `kind` is 0, 1 and 2 for these.
#[cube]
fn channel(colour: usize, kind: usize, component: usize, components: usize) -> usize {
    (1 + 3 * colour + kind) * components + component
}

#[cube]
fn read(map: &[f32], bias: &[f32], start: usize, at: usize) -> f32 {
    map[start + at] + bias[at]
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

/// One colour under a component whose mean is shifted by what is known of the colours before.
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
) -> LogProbability {
    let mean = read(map, bias, start, channel(colour, 0, component, components));
    let log_scale = read(map, bias, start, channel(colour, 1, component, components));
    logistic(pixel, mean + shift, log_scale)
}

/// A pixel's three values under a component.
#[derive(CubeType)]
struct Component {
    logit: f32,
    of_red: LogProbability,
    of_green: LogProbability,
    of_blue: LogProbability,
    /// The logarithm of the joint probability, with the logit.
    joint: f32,
}

#[cube]
fn component(
    map: &[f32],
    bias: &[f32],
    start: usize,
    index: usize,
    components: usize,
    red: &Known,
    green: &Known,
    blue: &Known,
) -> Component {
    let logit = read(map, bias, start, index);
    let green_red = coefficient(map, bias, start, 0, index, components);
    let blue_red = coefficient(map, bias, start, 1, index, components);
    let blue_green = coefficient(map, bias, start, 2, index, components);
    let of_red = of_colour(map, bias, start, 0, index, components, red, 0.0f32);
    let shift = green_red * red.signed;
    let of_green = of_colour(map, bias, start, 1, index, components, green, shift);
    let shift = blue_red * red.signed + blue_green * green.signed;
    let of_blue = of_colour(map, bias, start, 2, index, components, blue, shift);
    let joint = logit + of_red.value + of_green.value + of_blue.value;
    Component {
        logit,
        of_red,
        of_green,
        of_blue,
        joint,
    }
}

/// Writes the gradient of one colour's mean, log-scale and raw coefficient. `by_tanh` is the derivative of the log-probability by the coefficient.
#[cube]
fn write_colour<F: Float>(
    gradient: &mut [F],
    at: usize,
    components: usize,
    weight: f32,
    of_colour: &LogProbability,
    raw: f32,
    by_tanh: f32,
) {
    gradient[at] = F::cast_from(weight * of_colour.by_mean);
    gradient[at + components] = F::cast_from(weight * of_colour.by_log_scale);
    // 1 - tanh^2 would lose most digits where tanh is near 1.
    let e = (-2.0f32 * raw.abs()).exp();
    let slope = 4.0f32 * e / ((1.0f32 + e) * (1.0f32 + e));
    gradient[at + 2 * components] = F::cast_from(weight * by_tanh * slope);
}

/// A mixture of logistics for each pixel, green depending on red, and blue on both (Salimans et al. 2017). Adds the output layer's bias to the map,
/// sums each image's negative log-probability, and writes the gradient of its mean over the batch. A cube an image.
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
        let mut index = 0usize;
        while index < components {
            let found = component(map, bias, start, index, components, &red, &green, &blue);
            let (joint, logit) = (found.joint, found.logit);
            let largest = select(joint > joint_largest, joint, joint_largest);
            joint_sum = joint_sum * (joint_largest - largest).exp() + (joint - largest).exp();
            joint_largest = largest;
            let largest = select(logit > logit_largest, logit, logit_largest);
            logit_sum = logit_sum * (logit_largest - largest).exp() + (logit - largest).exp();
            logit_largest = largest;
            index += 1;
        }
        sum -= (joint_largest + joint_sum.ln()) - (logit_largest + logit_sum.ln());

        // Everything again is cheaper than to keep it.
        let mut index = 0usize;
        while index < components {
            let found = component(map, bias, start, index, components, &red, &green, &blue);
            let weight = (found.joint - joint_largest).exp() / joint_sum;
            let share = (found.logit - logit_largest).exp() / logit_sum;
            gradient[start + index] = F::cast_from((share - weight) * reciprocal);
            let weight = 0.0f32 - weight * reciprocal;
            let at = start + channel(0, 0, index, components);
            let by_tanh = found.of_green.by_mean * red.signed;
            let of_red = &found.of_red;
            let raw = read(map, bias, start, channel(0, 2, index, components));
            write_colour::<F>(gradient, at, components, weight, of_red, raw, by_tanh);
            let at = start + channel(1, 0, index, components);
            let by_tanh = found.of_blue.by_mean * red.signed;
            let of_green = &found.of_green;
            let raw = read(map, bias, start, channel(1, 2, index, components));
            write_colour::<F>(gradient, at, components, weight, of_green, raw, by_tanh);
            let at = start + channel(2, 0, index, components);
            let by_tanh = found.of_blue.by_mean * green.signed;
            let of_blue = &found.of_blue;
            let raw = read(map, bias, start, channel(2, 2, index, components));
            write_colour::<F>(gradient, at, components, weight, of_blue, raw, by_tanh);
            index += 1;
        }
        position += UNITS;
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        nll[image] = sum;
    }
}
