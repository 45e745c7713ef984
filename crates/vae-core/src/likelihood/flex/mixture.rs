//! Mixtures of discretised logistics at some positions of an image: value, and derivatives in place of the parameters.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use super::lanes::{LANES, Lane, Pixels};
use super::logistic::log_probability;
use super::real::Real;

/// Adds the negative logarithm of the probability of each position's three colours to `nll`. Where `WITH_GRADIENT`, the
/// parameters, `[10 components, LANES]` in the order of the map's channels, become its derivatives.
#[inline(always)]
pub(super) fn add_nll<T: Real, const WITH_GRADIENT: bool>(
    rows: &mut [Lane<T>],
    components: usize,
    pixels: &Pixels<T>,
    nll: &mut Lane<T>,
) {
    let mut joint = vec![[T::ZERO; LANES]; components];
    let (logits, colours) = rows.split_at_mut(components);
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

    let (joint_largest, joint_sum) = log_sum(&joint);
    let (logit_largest, logit_sum) = log_sum(logits);
    for lane in 0..LANES {
        nll[lane] = nll[lane]
            + ((logit_largest[lane] + logit_sum[lane].ln())
                - (joint_largest[lane] + joint_sum[lane].ln()));
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
