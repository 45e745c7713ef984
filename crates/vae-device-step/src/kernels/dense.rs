//! What follows the norm of a dense layer: activation and dropout's mask, forward and backward.

use cubecl::prelude::*;

use super::normal::{density, mass_below};

/// Which activation; numbers, as a kernel's compile-time arguments are.
pub(crate) const RELU: u32 = 0;
pub(crate) const SIGMOID: u32 = 1;
pub(crate) const TANH: u32 = 2;
pub(crate) const SILU: u32 = 3;
pub(crate) const GELU: u32 = 4;

#[cube]
fn sigmoid(value: f32) -> f32 {
    // exp of what is not positive: no overflow.
    let small = (0.0f32 - value.abs()).exp();
    let mut above = small;
    if value >= 0.0f32 {
        above = 1.0f32;
    }
    above / (1.0f32 + small)
}

/// `y = mask * activation((x - mean) * inverse * gamma + beta)`.
#[cube(launch_unchecked)]
pub(crate) fn activate<F: Float>(
    x: &[F],
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    beta: &[f32],
    mask: ComptimeOption<&[f32]>,
    y: &mut [F],
    count: usize,
    channels: usize,
    #[comptime] activation: u32,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let normalized = (f32::cast_from(x[ABSOLUTE_POS]) - mean[channel]) * inverse[channel];
    let value = normalized * gamma[channel] + beta[channel];
    let active = if comptime!(activation == SIGMOID) {
        sigmoid(value)
    } else if comptime!(activation == TANH) {
        value.tanh()
    } else if comptime!(activation == SILU) {
        value * sigmoid(value)
    } else if comptime!(activation == GELU) {
        value * mass_below(value)
    } else {
        max_nan(value, 0.0f32)
    };
    let factor: ComptimeOption<f32> = mask.as_ref().map(|mask| mask[ABSOLUTE_POS]);
    y[ABSOLUTE_POS] = F::cast_from(active * factor.unwrap_or(1.0f32));
}

/// The gradient of the norm's output from that of [`activate`]'s: times the mask and the activation's slope.
#[cube(launch_unchecked)]
pub(crate) fn activate_gradient<F: Float>(
    x: &[F],
    mean: &[f32],
    inverse: &[f32],
    gamma: &[f32],
    beta: &[f32],
    mask: ComptimeOption<&[f32]>,
    gradient: &[F],
    of_norm: &mut [F],
    count: usize,
    channels: usize,
    #[comptime] activation: u32,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let normalized = (f32::cast_from(x[ABSOLUTE_POS]) - mean[channel]) * inverse[channel];
    let value = normalized * gamma[channel] + beta[channel];
    let slope = if comptime!(activation == SIGMOID) {
        let active = sigmoid(value);
        active * (1.0f32 - active)
    } else if comptime!(activation == TANH) {
        let active = value.tanh();
        1.0f32 - active * active
    } else if comptime!(activation == SILU) {
        let active = sigmoid(value);
        active * (1.0f32 + value * (1.0f32 - active))
    } else if comptime!(activation == GELU) {
        mass_below(value) + value * density(value)
    } else {
        let mut slope = 0.0f32;
        if value > 0.0f32 {
            slope = 1.0f32;
        }
        slope
    };
    let factor: ComptimeOption<f32> = mask.as_ref().map(|mask| mask[ABSOLUTE_POS]);
    let passed = f32::cast_from(gradient[ABSOLUTE_POS]) * factor.unwrap_or(1.0f32);
    of_norm[ABSOLUTE_POS] = F::cast_from(passed * slope);
}
