//! Mixtures of discretised logistics at some positions of an image: value, and derivatives in place of the parameters.
//!
//! With w the distance of level and mean in scales, t the level's width in scales, u = exp(-w) and q = exp(-t / 2), every
//! sigmoid and logarithm of a level's probability follows from u, q and one logarithm more:
//!
//! ```text
//! far edge   b = w + t / 2,   exp(-b)   = u q
//! near edge  a = w - t / 2,   exp(-|a|) = u / q, or q / u where the level is around the mean
//! log p = -log((1 + exp(-b)) (1 + exp(-|a|))) - max(a, 0) + log(1 - q^2)
//! ```
//!
//! w takes the mean's side away, which the level's probability does not depend on; the lowest and the highest level, which
//! do, have one edge only, whichever of the two it is.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use super::real::Real;
use crate::likelihood::level_bounds::{HALF_LEVEL, LARGEST_LOG_SCALE, SMALLEST_LOG_SCALE};

/// Positions treated at a time: a whole number of the widest registers, and few enough that a mixture of 10 stays in the
/// nearest cache.
pub(super) const LANES: usize = 64;

/// One value at each position.
pub(super) type Lane<T> = [T; LANES];

/// What is known of the image at each position.
pub(super) struct Pixels<T> {
    /// Red, green and blue from -1 to 1.
    pub(super) signed: [Lane<T>; 3],
    /// -1 at the lowest level, 1 at the highest, else 0.
    pub(super) edge: [Lane<T>; 3],
}

impl<T: Real> Pixels<T> {
    pub(super) fn new() -> Self {
        Self {
            signed: [[T::ZERO; LANES]; 3],
            edge: [[T::ZERO; LANES]; 3],
        }
    }

    /// Takes in a value from 0 to 1.
    #[inline(always)]
    pub(super) fn set(&mut self, colour: usize, lane: usize, value: T) {
        let level = (value * T::from_f64(255.0)).round();
        let highest = T::from_f64(255.0);
        self.signed[colour][lane] = (level + level - highest) / highest;
        let is_highest = if level == highest { T::ONE } else { T::ZERO };
        self.edge[colour][lane] = if level == T::ZERO {
            -T::ONE
        } else {
            is_highest
        };
    }
}

/// Logarithm of a level's probability, and its derivatives by mean and log-scale.
#[inline(always)]
fn log_probability<T: Real>(signed: T, edge: T, mean: T, log_scale: T) -> [T; 3] {
    let (zero, one) = (T::ZERO, T::ONE);
    let (smallest, largest) = (
        T::from_f64(SMALLEST_LOG_SCALE),
        T::from_f64(LARGEST_LOG_SCALE),
    );
    let bounded = if log_scale < smallest {
        smallest
    } else {
        log_scale
    };
    let bounded = if bounded > largest { largest } else { bounded };
    let is_free = if log_scale < smallest { zero } else { one };
    let is_free = if log_scale > largest { zero } else { is_free };

    let inverse = (-bounded).exp();
    let half_width = T::from_f64(HALF_LEVEL) * inverse;
    let signed_distance = (signed - mean) * inverse;
    let distance = signed_distance.abs();
    let (far, near) = (distance + half_width, distance - half_width);

    // exp(-distance), not so small that dividing by it overflows; it counts only where it is not.
    let u = (-(if distance > T::FAR { T::FAR } else { distance })).exp();
    let q_less_one = (-half_width).exp_minus_one();
    let q = one + q_less_one;
    let is_outside = near >= zero;
    let (top, bottom) = if is_outside { (u, q) } else { (q, u) };
    let of_far = u * q; // exp(-far)
    let of_near = top / bottom; // exp(-|near|)
    let (far_sum, near_sum) = (one + of_far, one + of_near);
    let reciprocal = one / (far_sum * near_sum);
    let above_far = of_far * (reciprocal * near_sum); // sigmoid(-far)
    let near_share = reciprocal * far_sum; // 1 / (1 + exp(-|near|))
    let below_near = if is_outside {
        near_share
    } else {
        of_near * near_share
    }; // sigmoid(near)

    // 1 - q^2 over the width: between 0.1 and 1, so that its logarithm is exact whatever the scale.
    let width = half_width + half_width;
    let mass = -q_less_one * (one + q);
    let relative_mass = mass / width;

    // The side that counts at the lowest and the highest level: what lies beyond the far edge, or beyond the near one.
    let is_edge = edge != zero;
    let is_beyond_far = edge * signed_distance <= zero;
    let near_reach = if near <= zero { zero } else { near };
    let edge_factor = if is_beyond_far {
        reciprocal * near_sum
    } else {
        near_share
    };
    let factor = if is_edge {
        edge_factor
    } else {
        reciprocal * relative_mass
    };
    let edge_linear = if is_beyond_far { zero } else { -near_reach };
    let log_width = T::from_f64((2.0 * HALF_LEVEL).ln()) - bounded;
    let linear = if is_edge {
        edge_linear
    } else {
        log_width - near_reach
    };
    // A NaN at the near edge would be lost where it is not looked at.
    #[allow(clippy::eq_op)] // Zero, or a NaN that must not be hidden.
    let value = factor.ln() + linear + (near - near);

    // A higher mean makes the lowest level less likely and the highest more; inside both edges move.
    let beyond = if is_beyond_far { above_far } else { below_near };
    let away = if signed_distance < zero {
        inverse
    } else {
        -inverse
    };
    let by_mean = if is_edge {
        edge * inverse * beyond
    } else {
        (above_far - below_near) * away
    };

    let by_width = (width * (q * q)) / mass;
    let inside = below_near * near - above_far * far - by_width;
    let edge_scale = if is_beyond_far {
        -(above_far * far)
    } else {
        below_near * near
    };
    let by_log_scale = if is_edge { edge_scale } else { inside };
    [value, by_mean, is_free * by_log_scale]
}

/// The parameters' rows of one mixture at [`LANES`] positions: `[10 components, LANES]`, in the order of the map's channels.
pub(super) struct Rows<'a, T> {
    pub(super) values: &'a mut [Lane<T>],
    pub(super) components: usize,
}

/// Logarithm of the probability of each position's colours. Where `WITH_GRADIENT`, the parameters become the derivatives of
/// its negative.
///
/// A build for any x86-64 processor may assume registers of two doubles only, so the kernel exists a second time for AVX2
/// and is chosen at run time. Both times it is the same code without fused or reordered operations, so results are equal.
#[allow(unsafe_code)]
pub(super) fn evaluate<T: Real, const WITH_GRADIENT: bool>(
    rows: Rows<'_, T>,
    pixels: &Pixels<T>,
    joint: &mut [Lane<T>],
    result: &mut Lane<T>,
) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide<T: Real, const WITH_GRADIENT: bool>(
            rows: Rows<'_, T>,
            pixels: &Pixels<T>,
            joint: &mut [Lane<T>],
            result: &mut Lane<T>,
        ) {
            portable::<T, WITH_GRADIENT>(rows, pixels, joint, result);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { wide::<T, WITH_GRADIENT>(rows, pixels, joint, result) };
        }
    }
    portable::<T, WITH_GRADIENT>(rows, pixels, joint, result);
}

#[inline(always)]
fn portable<T: Real, const WITH_GRADIENT: bool>(
    rows: Rows<'_, T>,
    pixels: &Pixels<T>,
    joint: &mut [Lane<T>],
    result: &mut Lane<T>,
) {
    let Rows { values, components } = rows;
    let (logits, colours) = values.split_at_mut(components);
    for component in 0..components {
        let mut total = logits[component];
        for colour in 0..3 {
            let at = |parameter: usize| (3 * colour + parameter) * components + component;
            let coefficient = |index: usize| (3 * index + 2) * components + component;
            let mut mean = colours[at(0)];
            // Raw coefficients of this colour's mean on the colours before it.
            for before in 0..colour {
                let raw = &colours[coefficient(colour + before - 1)];
                for lane in 0..LANES {
                    mean[lane] = mean[lane] + tanh(raw[lane]) * pixels.signed[before][lane];
                }
            }
            let mut by_mean = [T::ZERO; LANES];
            let mut by_log_scale = [T::ZERO; LANES];
            let log_scale = &colours[at(1)];
            for lane in 0..LANES {
                let [value, of_mean, of_log_scale] = log_probability(
                    pixels.signed[colour][lane],
                    pixels.edge[colour][lane],
                    mean[lane],
                    log_scale[lane],
                );
                total[lane] = total[lane] + value;
                by_mean[lane] = of_mean;
                by_log_scale[lane] = of_log_scale;
            }
            if WITH_GRADIENT {
                for before in 0..colour {
                    let raw = &mut colours[coefficient(colour + before - 1)];
                    for lane in 0..LANES {
                        let slope = tanh_slope(raw[lane]);
                        raw[lane] = by_mean[lane] * pixels.signed[before][lane] * slope;
                    }
                }
                colours[at(0)] = by_mean;
                colours[at(1)] = by_log_scale;
            }
        }
        joint[component] = total;
    }

    let (joint_largest, joint_sum) = log_sum(joint);
    let (logit_largest, logit_sum) = log_sum(logits);
    for lane in 0..LANES {
        result[lane] = (joint_largest[lane] + joint_sum[lane].ln())
            - (logit_largest[lane] + logit_sum[lane].ln());
    }
    if !WITH_GRADIENT {
        return;
    }
    for component in 0..components {
        let mut weight = [T::ZERO; LANES];
        for lane in 0..LANES {
            weight[lane] =
                exp_below(joint[component][lane] - joint_largest[lane]) / joint_sum[lane];
            let share = exp_below(logits[component][lane] - logit_largest[lane]) / logit_sum[lane];
            logits[component][lane] = share - weight[lane];
        }
        for parameter in 0..9 {
            let row = &mut colours[parameter * components + component];
            for lane in 0..LANES {
                row[lane] = -(weight[lane] * row[lane]);
            }
        }
    }
}

/// The largest of the rows, and the sum of exponentials of what is below it.
#[inline(always)]
fn log_sum<T: Real>(rows: &[Lane<T>]) -> (Lane<T>, Lane<T>) {
    let mut largest = rows[0];
    for row in &rows[1..] {
        for lane in 0..LANES {
            largest[lane] = if row[lane] > largest[lane] {
                row[lane]
            } else {
                largest[lane]
            };
        }
    }
    let mut sum = [T::ZERO; LANES];
    for row in rows {
        for lane in 0..LANES {
            sum[lane] = sum[lane] + exp_below(row[lane] - largest[lane]);
        }
    }
    (largest, sum)
}

/// exp(x) of x <= 0; far below, as good as 0.
#[inline(always)]
fn exp_below<T: Real>(x: T) -> T {
    (if x < -T::FAR { -T::FAR } else { x }).exp()
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> T {
    let double = x.abs() + x.abs();
    let less_one = (-(if double > T::FAR { T::FAR } else { double })).exp_minus_one(); // exp(-2 |x|) - 1
    let magnitude = -less_one / (T::ONE + T::ONE + less_one);
    if x < T::ZERO { -magnitude } else { magnitude }
}

/// The derivative of [`tanh`], 4 e / (1 + e)^2 with e = exp(-2 |x|): 1 - tanh^2 would lose most digits where tanh is near 1.
#[inline(always)]
fn tanh_slope<T: Real>(x: T) -> T {
    let double = x.abs() + x.abs();
    let e = exp_below(-double);
    let sum = T::ONE + e;
    T::from_f64(4.0) * e / (sum * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_tanh_keeps_its_digits_where_tanh_is_near_one() {
        for x in [0.0f32, 0.25, -0.5, 2.0, -6.0, 9.0, -12.0, 30.0] {
            let expected = f64::from(x).cosh().powi(-2);
            let found = f64::from(tanh_slope(x));
            assert!(
                (found / expected - 1.0).abs() < 1e-5,
                "{x}: {found} {expected}"
            );
        }
    }
}
