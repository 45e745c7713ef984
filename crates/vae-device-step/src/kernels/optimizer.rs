//! What ends a step: penalties, the gradient's norm, whether the step is taken, and Adam.

use cubecl::prelude::*;

use super::{UNITS, cube_sum};

/// Positions in the state that stays on the device: whether the last step was taken (1 or 0), and how many were.
pub(crate) const STATE_TAKEN: usize = 0;
pub(crate) const STATE_UPDATES: usize = 1;
pub(crate) const STATE_LEN: usize = 2;

/// Positions in what the host writes before a step. Adam's factors, the average's rate and the KL divergence's weight depend on how many steps were
/// taken, of which the host knows only what it has read: it gives those for each count that is possible.
pub(crate) const RATES_KNOWN_UPDATES: usize = 0;
pub(crate) const RATES_LARGEST_NORM: usize = 1;
pub(crate) const RATES_FACTORS: usize = 2;
/// Adam's step size, what it multiplies the second moment with, what of the way to the new weights their average goes, and the KL divergence's weight.
pub(crate) const FACTORS: usize = 4;
pub(crate) const FACTORS_KL_WEIGHT: usize = 3;

/// Steps that may be under way when another one is asked for.
pub(crate) const MOST_UNREAD: usize = 3;
pub(crate) const POSSIBLE_COUNTS: usize = MOST_UNREAD + 1;
pub(crate) const RATES_LEN: usize = RATES_FACTORS + FACTORS * POSSIBLE_COUNTS;

/// Positions behind the terms of each image in what the host reads of a step.
pub(crate) const RECORD_PENALTY: usize = 0;
pub(crate) const RECORD_SQUARED_NORM: usize = 1;
pub(crate) const RECORD_TAKEN: usize = 2;
pub(crate) const RECORD_UPDATES: usize = 3;
/// One more than the chunk of the first gradient that is not finite; 0 where all are.
pub(crate) const RECORD_NOT_FINITE: usize = 4;
/// How many parameters' gradients are not finite.
pub(crate) const RECORD_PARAMETERS: usize = 5;
/// The KL divergence with free bits, as a mean over the batch; where there are any.
pub(crate) const RECORD_FREE_BITS: usize = 6;
pub(crate) const RECORD_LEN: usize = 7;

/// Numbers of a chunk in the table of chunks: its first value, how many there are, and whose they are, counted from 1.
pub(crate) const CHUNK_NUMBERS: usize = 3;

/// Adds the penalty's gradient to that of each chunk of a parameter, and sums the chunk's squared gradient and its penalty. A cube a chunk.
#[cube(launch_unchecked)]
pub(crate) fn squares(
    weights: &[f32],
    gradients: &mut [f32],
    chunks: &[u32],
    coefficients: &[f32],
    squares: &mut [f32],
    penalties: &mut [f32],
) {
    let chunk = CUBE_POS;
    let first = chunks[CHUNK_NUMBERS * chunk] as usize;
    let end = first + chunks[CHUNK_NUMBERS * chunk + 1] as usize;
    let coefficient = coefficients[chunk];
    let mut square = 0.0f32;
    let mut penalty = 0.0f32;
    let mut position = first + UNIT_POS as usize;
    while position < end {
        let mut gradient = gradients[position];
        if coefficient != 0.0f32 {
            let weight = weights[position];
            penalty += weight * weight;
            gradient += 2.0f32 * coefficient * weight;
            gradients[position] = gradient;
        }
        square += gradient * gradient;
        position += UNITS;
    }
    let square = cube_sum(square);
    let penalty = cube_sum(penalty);
    if UNIT_POS == 0 {
        squares[chunk] = square;
        penalties[chunk] = coefficient * penalty;
    }
}

/// Whether the step is taken: where every term and the gradient's norm are finite, and the norm is not above the largest one. One cube.
#[cube(launch_unchecked)]
pub(crate) fn decide(
    record: &mut [f32],
    squares: &[f32],
    penalties: &[f32],
    table: &[u32],
    rates: &[f32],
    state: &mut [f32],
    terms: usize,
    chunks: usize,
) {
    let mut square = 0.0f32;
    let mut penalty = 0.0f32;
    let mut not_finite = 0.0f32;
    let mut chunk = UNIT_POS as usize;
    while chunk < chunks {
        let value = squares[chunk];
        square += value;
        penalty += penalties[chunk];
        if (value.is_nan() || value.is_inf()) && not_finite == 0.0f32 {
            not_finite = f32::cast_from(chunk + 1);
        }
        chunk += UNITS;
    }
    // Terms that are not finite.
    let mut of_terms = 0.0f32;
    let mut term = UNIT_POS as usize;
    while term < terms {
        let value = record[term];
        if value.is_nan() || value.is_inf() {
            of_terms += 1.0f32;
        }
        term += UNITS;
    }
    let square = cube_sum(square);
    let penalty = cube_sum(penalty);
    let of_terms = cube_sum(of_terms);
    // The smallest number above zero.
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    shared[UNIT_POS as usize] = not_finite;
    sync_cube();
    if UNIT_POS == 0 {
        let mut first = 0.0f32;
        for unit in 0..UNITS {
            let found = shared[unit];
            if found > 0.0f32 && (first == 0.0f32 || found < first) {
                first = found;
            }
        }
        let mut taken = 0.0f32;
        let is_lost = square.is_nan() || square.is_inf() || penalty.is_nan() || penalty.is_inf();
        if !is_lost && of_terms == 0.0f32 && square.sqrt() <= rates[RATES_LARGEST_NORM] {
            taken = 1.0f32;
        }
        let updates = state[STATE_UPDATES] + taken;
        state[STATE_TAKEN] = taken;
        state[STATE_UPDATES] = updates;
        record[terms + RECORD_PENALTY] = penalty;
        record[terms + RECORD_SQUARED_NORM] = square;
        record[terms + RECORD_TAKEN] = taken;
        record[terms + RECORD_UPDATES] = updates;
        record[terms + RECORD_NOT_FINITE] = first;
        // A rare case: one unit has the time.
        let mut parameters = 0.0f32;
        if first > 0.0f32 {
            let mut last = 0u32;
            for chunk in 0..chunks {
                let value = squares[chunk];
                let parameter = table[CHUNK_NUMBERS * chunk + 2];
                if (value.is_nan() || value.is_inf()) && parameter != last {
                    parameters += 1.0f32;
                    last = parameter;
                }
            }
        }
        record[terms + RECORD_PARAMETERS] = parameters;
    }
}

/// Where the factors of the update that this step is lie, once it is counted.
#[cube]
pub(crate) fn factors_at(state: &[f32], rates: &[f32]) -> usize {
    factors_behind(state[STATE_UPDATES] - 1.0f32, rates)
}

/// Where the factors of the update behind so many of them lie; the host gave them from the first one that it does not know of.
#[cube]
pub(crate) fn factors_behind(updates: f32, rates: &[f32]) -> usize {
    let ahead = u32::cast_from(updates - rates[RATES_KNOWN_UPDATES]);
    RATES_FACTORS + FACTORS * ahead as usize
}

/// Adam on all parameters where the step is taken; `narrow` gets the weights in the products' type, and `average` goes after them.
#[cube(launch_unchecked)]
pub(crate) fn adam<G: Float, N: Size>(
    gradients: &[Vector<f32, N>],
    weights: &mut [Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    narrow: &mut [Vector<G, N>],
    average: &mut [Vector<f32, N>],
    state: &[f32],
    rates: &[f32],
    vectors: usize,
    beta_1: f32,
    beta_2: f32,
    rest_1: f32,
    rest_2: f32,
    epsilon: f32,
    #[comptime] is_narrowed: bool,
    #[comptime] is_averaged: bool,
    #[define(G)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= vectors || state[STATE_TAKEN] < 0.5f32 {
        terminate!();
    }
    let factors = factors_at(state, rates);
    let step_size = rates[factors];
    let second_scale = rates[factors + 1];
    let gradient = gradients[ABSOLUTE_POS];
    let new_first = first[ABSOLUTE_POS] * Vector::<f32, N>::new(beta_1)
        + gradient * Vector::<f32, N>::new(rest_1);
    let new_second = second[ABSOLUTE_POS] * Vector::<f32, N>::new(beta_2)
        + gradient * gradient * Vector::<f32, N>::new(rest_2);
    let root =
        (new_second * Vector::<f32, N>::new(second_scale)).sqrt() + Vector::<f32, N>::new(epsilon);
    let new = weights[ABSOLUTE_POS] - new_first / root * Vector::<f32, N>::new(step_size);
    first[ABSOLUTE_POS] = new_first;
    second[ABSOLUTE_POS] = new_second;
    weights[ABSOLUTE_POS] = new;
    if comptime!(is_narrowed) {
        narrow[ABSOLUTE_POS] = Vector::<G, N>::cast_from(new);
    }
    if comptime!(is_averaged) {
        let old = average[ABSOLUTE_POS];
        average[ABSOLUTE_POS] = old + (new - old) * Vector::<f32, N>::new(rates[factors + 2]);
    }
}

/// The weights in the products' type, before the first step.
#[cube(launch_unchecked)]
pub(crate) fn narrow_weights<G: Float>(
    weights: &[f32],
    narrow: &mut [G],
    count: usize,
    #[define(G)] _elem: ElemType,
) {
    if ABSOLUTE_POS < count {
        narrow[ABSOLUTE_POS] = G::cast_from(weights[ABSOLUTE_POS]);
    }
}
