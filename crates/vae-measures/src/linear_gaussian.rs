//! A variational autoencoder whose likelihood is known: z ~ N(0, I), x given z ~ N(W z + b, diag exp(log_variance)),
//! q(z given x) = N(A x + c, diag exp(encoder_log_variance)).
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

/// The model. Matrices are row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGaussian {
    /// W, `[dimensions, latent_dimensions]`
    pub weight: Vec<f64>,
    /// b, `[dimensions]`
    pub bias: Vec<f64>,
    /// Of x given z, `[dimensions]`
    pub log_variance: Vec<f64>,
    /// A, `[latent_dimensions, dimensions]`
    pub encoder_weight: Vec<f64>,
    /// c, `[latent_dimensions]`
    pub encoder_bias: Vec<f64>,
    /// Of z given x, `[latent_dimensions]`
    pub encoder_log_variance: Vec<f64>,
}

/// Sizes that do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a linear-Gaussian model of {dimensions} dimensions and {latents} latents has {expected} values of `{field}`, not {found}"
)]
pub struct LinearGaussianError {
    /// What does not fit.
    pub field: &'static str,
    /// Of x.
    pub dimensions: usize,
    /// Of z.
    pub latents: usize,
    /// Values that there should be.
    pub expected: usize,
    /// Values that there are.
    pub found: usize,
}

const LOG_TWO_PI: f64 = 1.837_877_066_409_345_3;

/// Log-density of a Gaussian with independent dimensions.
fn log_normal(values: &[f64], mean: &[f64], log_variance: &[f64]) -> f64 {
    let each = values.iter().zip(mean).zip(log_variance);
    -0.5 * each
        .map(|((x, mean), log_variance)| {
            LOG_TWO_PI + log_variance + (x - mean).powi(2) * (-log_variance).exp()
        })
        .sum::<f64>()
}

/// `matrix values + offset`.
fn affine(matrix: &[f64], values: &[f64], offset: &[f64]) -> Vec<f64> {
    let rows = matrix.chunks(values.len());
    rows.zip(offset)
        .map(|(row, offset)| offset + row.iter().zip(values).map(|(a, b)| a * b).sum::<f64>())
        .collect()
}

impl LinearGaussian {
    /// A model of `dimensions` and `latents` whose encoder is near the true posterior's mean but not at it, and has none of
    /// its correlations, so that every bound is strict. `normal` gives standard normal numbers.
    pub fn near_posterior(
        dimensions: usize,
        latents: usize,
        mut normal: impl FnMut() -> f64,
    ) -> Self {
        let mut scaled = |count: usize, scale: f64, shift: f64| -> Vec<f64> {
            (0..count).map(|_| shift + scale * normal()).collect()
        };
        let weight = scaled(dimensions * latents, 0.8, 0.0);
        let bias = scaled(dimensions, 1.0, 0.0);
        let log_variance = scaled(dimensions, 0.4, -0.7);
        let [weight_noise, bias_noise, variance_noise] = [
            scaled(latents * dimensions, 0.06, 0.0),
            scaled(latents, 0.1, 0.0),
            scaled(latents, 0.25, 0.0),
        ];
        // Of the true posterior: I + W^T diag(1 / variance) W, and W^T diag(1 / variance).
        let scaled_weight = |latent: usize, dimension: usize| {
            weight[dimension * latents + latent] * (-log_variance[dimension]).exp()
        };
        let mut rows: Vec<Vec<f64>> = (0..latents)
            .map(|i| {
                let precision = (0..latents).map(|j| {
                    let products =
                        (0..dimensions).map(|d| scaled_weight(i, d) * weight[d * latents + j]);
                    f64::from(u8::from(i == j)) + products.sum::<f64>()
                });
                precision
                    .chain((0..dimensions).map(|d| scaled_weight(i, d)))
                    .collect()
            })
            .collect();
        let diagonal: Vec<f64> = rows.iter().enumerate().map(|(i, row)| row[i]).collect();
        // Gauss and Jordan; a precision matrix needs no exchange of rows.
        for pivot in 0..latents {
            let inverse = 1.0 / rows[pivot][pivot];
            rows[pivot].iter_mut().for_each(|value| *value *= inverse);
            let chosen = rows[pivot].clone();
            for (_, row) in rows
                .iter_mut()
                .enumerate()
                .filter(|(index, _)| *index != pivot)
            {
                let factor = row[pivot];
                row.iter_mut()
                    .zip(&chosen)
                    .for_each(|(value, of)| *value -= factor * of);
            }
        }
        let best: Vec<f64> = rows
            .iter()
            .flat_map(|row| row[latents..].iter().copied())
            .collect();
        let centre = affine(&best, &bias, &vec![0.0; latents]);
        let sum = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| a + b).collect();
        Self {
            encoder_weight: sum(best, weight_noise),
            encoder_bias: sum(centre.into_iter().map(|value| -value).collect(), bias_noise),
            encoder_log_variance: sum(
                diagonal
                    .into_iter()
                    .map(|precision| -precision.ln())
                    .collect(),
                variance_noise,
            ),
            weight,
            bias,
            log_variance,
        }
    }

    /// Mean of x given z: `W z + b`.
    pub fn decode(&self, z: &[f64]) -> Vec<f64> {
        affine(&self.weight, z, &self.bias)
    }

    /// log p(x given z), in nats.
    pub fn conditional_log_likelihood(&self, x: &[f64], z: &[f64]) -> f64 {
        log_normal(x, &self.decode(z), &self.log_variance)
    }
    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// Names the first field that does not fit.
    pub fn validate(&self) -> Result<(), LinearGaussianError> {
        let (dimensions, latents) = (self.bias.len(), self.encoder_bias.len());
        let fields = [
            ("weight", self.weight.len(), dimensions * latents),
            ("log_variance", self.log_variance.len(), dimensions),
            (
                "encoder_weight",
                self.encoder_weight.len(),
                dimensions * latents,
            ),
            (
                "encoder_log_variance",
                self.encoder_log_variance.len(),
                latents,
            ),
        ];
        match fields
            .into_iter()
            .find(|(_, found, expected)| found != expected)
        {
            None => Ok(()),
            Some((field, found, expected)) => Err(LinearGaussianError {
                field,
                dimensions,
                latents,
                expected,
                found,
            }),
        }
    }

    /// log p(x) exactly, in nats: the density of N(b, W W^T + diag exp(log_variance)).
    pub fn log_likelihood(&self, x: &[f64]) -> f64 {
        let size = self.bias.len();
        let latents = self.encoder_bias.len();
        let row = |index: usize| &self.weight[index * latents..(index + 1) * latents];
        // The covariance as L L^T (Cholesky), and L y = x - b solved on the way.
        let mut lower = vec![0.0; size * size];
        let mut solved = vec![0.0; size];
        let mut log_determinant = 0.0;
        for i in 0..size {
            for j in 0..=i {
                let product: f64 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                let diagonal = if i == j {
                    self.log_variance[i].exp()
                } else {
                    0.0
                };
                let before: f64 = (0..j)
                    .map(|k| lower[i * size + k] * lower[j * size + k])
                    .sum();
                let rest = product + diagonal - before;
                lower[i * size + j] = if i == j {
                    rest.sqrt()
                } else {
                    rest / lower[j * size + j]
                };
            }
            let before: f64 = (0..i).map(|k| lower[i * size + k] * solved[k]).sum();
            solved[i] = (x[i] - self.bias[i] - before) / lower[i * size + i];
            log_determinant += 2.0 * lower[i * size + i].ln();
        }
        let distance: f64 = solved.iter().map(|value| value * value).sum();
        -0.5 * (size as f64 * LOG_TWO_PI + log_determinant + distance)
    }

    /// Mean of q(z given x).
    pub fn posterior_mean(&self, x: &[f64]) -> Vec<f64> {
        affine(&self.encoder_weight, x, &self.encoder_bias)
    }

    /// KL(q(z given x) || N(0, I)), in nats.
    pub fn kl(&self, x: &[f64]) -> f64 {
        let each = self
            .posterior_mean(x)
            .into_iter()
            .zip(&self.encoder_log_variance);
        0.5 * each
            .map(|(mean, log_variance)| log_variance.exp_m1() - log_variance + mean * mean)
            .sum::<f64>()
    }

    /// The ELBO exactly, in nats: expected log-likelihood under q minus KL.
    pub fn elbo(&self, x: &[f64]) -> f64 {
        let latents = self.encoder_bias.len();
        let decoded = affine(&self.weight, &self.posterior_mean(x), &self.bias);
        let spread: f64 = self
            .weight
            .chunks(latents)
            .zip(&self.log_variance)
            .map(|(row, log_variance)| {
                let variance = row.iter().zip(&self.encoder_log_variance);
                variance.map(|(w, of)| w * w * of.exp()).sum::<f64>() * (-log_variance).exp()
            })
            .sum();
        log_normal(x, &decoded, &self.log_variance) - 0.5 * spread - self.kl(x)
    }

    /// log p(x, z) - log q(z given x) at `z = mean + exp(log_variance / 2) noise`, in nats.
    pub fn log_weight(&self, x: &[f64], noise: &[f64]) -> f64 {
        let mean = self.posterior_mean(x);
        let draw = mean.iter().zip(&self.encoder_log_variance).zip(noise);
        let z: Vec<f64> = draw
            .map(|((mean, log_variance), noise)| mean + (0.5 * log_variance).exp() * noise)
            .collect();
        let zeros = vec![0.0; z.len()];
        self.conditional_log_likelihood(x, &z) + log_normal(&z, &zeros, &zeros)
            - log_normal(&z, &mean, &self.encoder_log_variance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_near_the_posterior_has_a_small_gap_and_never_none() {
        // Irregular enough; the bounds hold for any numbers.
        let mut state = 0.3f64;
        let normal = || {
            state = (state * 997.0 + 0.123).fract();
            2.0 * (state - 0.5) * 1.7
        };
        let model = LinearGaussian::near_posterior(5, 3, normal);
        assert_eq!(model.validate(), Ok(()));
        for x in [[0.0; 5], [1.0, -1.0, 0.5, 2.0, -0.3]] {
            let gap = model.log_likelihood(&x) - model.elbo(&x);
            assert!(gap > 0.0 && gap < 2.5, "{gap}");
        }
    }

    #[test]
    fn sizes_that_do_not_belong_together_are_named() {
        let model = LinearGaussian {
            weight: vec![1.0; 6],
            bias: vec![0.0; 3],
            log_variance: vec![0.0; 3],
            encoder_weight: vec![1.0; 5],
            encoder_bias: vec![0.0; 2],
            encoder_log_variance: vec![0.0; 2],
        };
        let error = model
            .validate()
            .expect_err("five values are no 2 x 3 matrix");
        assert_eq!(
            (error.field, error.expected, error.found),
            ("encoder_weight", 6, 5)
        );
        let fitting = LinearGaussian {
            encoder_weight: vec![1.0; 6],
            ..model
        };
        assert_eq!(fitting.validate(), Ok(()));
    }
}
