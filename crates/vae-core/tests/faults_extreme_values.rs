//! KL divergence, cross-entropy and their gradients at the ends of float32, against float64.
//!
//! Where the true value fits into float32, the result is finite and within 1e-5 or a relative 5e-5 of it, whichever is
//! larger: the sums are of terms that are not negative, so nothing cancels. Where it does not fit, the result is
//! infinity and never NaN, so that a step that overflowed is seen for what it is. Gradients are held to the same.

#![forbid(unsafe_code)]

use burn::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use vae_core::{DiagonalGaussian, bernoulli_cross_entropy};

#[path = "../../../tests/src/faults.rs"]
mod faults;

const BATCH: usize = 5_000;
const LATENT_DIM: usize = 8;
const PIXELS: usize = 12;
/// Of this size, a true value may or may not overflow on the way: float32 ends at 3.4e38.
const NEARLY_INFINITE: f64 = 1e38;

/// Numbers at which something changes: zeros, the smallest, the largest, and where exp under- and overflows.
const SPECIAL: [f32; 20] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1.2e-38,
    -1.2e-38,
    6e-8,
    -6e-8,
    1.0,
    -1.0,
    16.7,
    -16.7,
    88.7,
    -88.7,
    88.8,
    -88.8,
    104.0,
    -104.0,
    f32::MAX,
    f32::MIN,
];

struct Draw(ChaCha8Rng);

impl Draw {
    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A number of the usual size, a special one, one of any size, or any finite bits.
    fn number(&mut self) -> f32 {
        match self.0.next_u32() % 8 {
            0 => SPECIAL[self.0.next_u32() as usize % SPECIAL.len()],
            1 => 200.0 * (self.unit() - 0.5),
            2 => Some(f32::from_bits(self.0.next_u32()))
                .filter(|number| number.is_finite())
                .unwrap_or(f32::MAX),
            3 => (self.unit() - 0.5) * 1e4f32.powf(self.unit()),
            _ => 40.0 * (self.unit() - 0.5),
        }
    }

    fn pixel(&mut self) -> f32 {
        match self.0.next_u32() % 8 {
            0 => 0.0,
            1 => 1.0,
            2 => [1e-45, 1.2e-38, 1e-7][self.0.next_u32() as usize % 3],
            _ => (self.0.next_u32() % 256) as f32 / 255.0,
        }
    }

    /// Rows of numbers: in a part of the rows all are of the usual size, so that no large one hides the others.
    fn rows(&mut self, length: usize) -> Vec<f32> {
        (0..BATCH)
            .flat_map(|row| {
                (0..length)
                    .map(|_| match row % 2 {
                        0 => 40.0 * (self.unit() - 0.5),
                        _ => self.number(),
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// Holds `found` against the true value; `told` says what it was computed from.
#[track_caller]
fn check(found: f32, expected: f64, told: impl Fn() -> String) {
    let found = f64::from(found);
    let is_right = if expected.abs() < NEARLY_INFINITE {
        (found - expected).abs() <= 1e-5f64.max(5e-5 * expected.abs())
    } else {
        found.signum() == expected.signum() && found.abs() >= NEARLY_INFINITE * 0.99
    };
    assert!(is_right, "{found:e} against {expected:e} from {}", told());
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

fn check_kl(draw: &mut Draw, device: &Device) {
    let (means, log_variances) = (draw.rows(LATENT_DIM), draw.rows(LATENT_DIM));
    let tensor = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [BATCH, LATENT_DIM]);
        Tensor::<2>::from_data(data, device).require_grad()
    };
    let posterior = DiagonalGaussian {
        mean: tensor(&means),
        log_variance: tensor(&log_variances),
    };
    let divergence = posterior.kl_to_standard_normal();
    let gradients = divergence.clone().sum().backward();
    let gradient = |tensor: &Tensor<2>| values(tensor.grad(&gradients).expect("a gradient"));
    let found = values(divergence);
    let rows = means
        .chunks(LATENT_DIM)
        .zip(log_variances.chunks(LATENT_DIM));
    for ((means, log_variances), found) in rows.zip(found) {
        let expected = means
            .iter()
            .zip(log_variances)
            .map(|(m, v)| (f64::from(*m), f64::from(*v)))
            .map(|(m, v)| 0.5 * (m * m + v.exp_m1() - v))
            .sum();
        check(found, expected, || {
            format!("KL of {means:?}, {log_variances:?}")
        });
    }
    for (found, mean) in gradient(&posterior.mean).into_iter().zip(&means) {
        check(found, f64::from(*mean), || {
            format!("KL's slope in mean {mean:e}")
        });
    }
    for (found, v) in gradient(&posterior.log_variance)
        .into_iter()
        .zip(&log_variances)
    {
        let expected = 0.5 * f64::from(*v).exp_m1();
        check(found, expected, || {
            format!("KL's slope in log-variance {v:e}")
        });
    }
}

fn check_cross_entropy(draw: &mut Draw, device: &Device) {
    let logits = draw.rows(PIXELS);
    let pixels: Vec<f32> = (0..BATCH * PIXELS).map(|_| draw.pixel()).collect();
    let tensor = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [BATCH, 3, 2, 2]);
        Tensor::<4>::from_data(data, device)
    };
    let leaf = tensor(&logits).require_grad();
    let nats = bernoulli_cross_entropy(leaf.clone(), tensor(&pixels));
    let gradients = nats.clone().sum().backward();
    let slopes = values(leaf.grad(&gradients).expect("a gradient"));
    let rows = logits.chunks(PIXELS).zip(pixels.chunks(PIXELS));
    for ((logits, pixels), found) in rows.zip(values(nats)) {
        let expected = logits
            .iter()
            .zip(pixels)
            .map(|(l, x)| (f64::from(*l), f64::from(*x)))
            // Exact for a pixel of 1, where l - l * 1 is 0 whatever l is.
            .map(|(l, x)| if l > 0.0 { l * (1.0 - x) } else { -l * x } + (-l.abs()).exp().ln_1p())
            .sum();
        check(found, expected, || {
            format!("cross-entropy of {logits:?}, {pixels:?}")
        });
    }
    for ((found, l), x) in slopes.into_iter().zip(&logits).zip(&pixels) {
        let expected = 1.0 / (1.0 + (-f64::from(*l)).exp()) - f64::from(*x);
        check(found, expected, || {
            format!("cross-entropy's slope in {l:e} at {x:e}")
        });
    }
}

#[test]
fn faults_of_extreme_values_are_no_faults() {
    let count = faults::cases(10_000, 10_000, 1_000_000);
    let device = Device::flex().autodiff();
    for seed in 0..(count / (2 * BATCH)) as u64 {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        check_kl(&mut draw, &device);
        check_cross_entropy(&mut draw, &device);
    }
    faults::passed("extreme values", count);
}
