//! Batch norm as a scale and a shift a channel, and its gradient, for values that may stand on a grid among zeros.
//!
//! A transposed 1x1 convolution with stride `s` leaves its product on one position in `s^2` and zeros elsewhere (its bias
//! does not matter to a norm). The statistics over all positions follow from those over the grid: with `spread = s^2`,
//! mean `m` and variance `v` on the grid,
//!
//! ```text
//! mean = m / spread        variance = v / spread + m^2 (spread - 1) / spread^2
//! ```

use crate::shared_batch::SharedBatch;

/// What a norm needs to know of its channels, and what it gives its input.
#[derive(Clone, Debug)]
pub(crate) struct Normalization {
    /// Over all positions, without the convolution's bias.
    pub(crate) mean: Vec<f64>,
    /// Over all positions.
    pub(crate) variance: Vec<f64>,
    /// `1 / sqrt(variance + epsilon)`
    pub(crate) inverse_deviation: Vec<f64>,
    /// The norm is `scale * value + shift`.
    pub(crate) scale: Vec<f64>,
    pub(crate) shift: Vec<f64>,
}

impl Normalization {
    /// From mean and variance over the grid.
    pub(crate) fn of_grid(
        grid_mean: &[f64],
        grid_variance: &[f64],
        spread: f64,
        gamma: &[f64],
        beta: &[f64],
        epsilon: f64,
    ) -> Self {
        let mean: Vec<f64> = grid_mean.iter().map(|mean| mean / spread).collect();
        let variance = grid_variance
            .iter()
            .zip(grid_mean)
            .map(|(variance, mean)| {
                variance / spread + mean * mean * (spread - 1.0) / (spread * spread)
            })
            .collect();
        Self::of_statistics(mean, variance, gamma, beta, epsilon)
    }

    /// From given mean and variance over all positions.
    pub(crate) fn of_statistics(
        mean: Vec<f64>,
        variance: Vec<f64>,
        gamma: &[f64],
        beta: &[f64],
        epsilon: f64,
    ) -> Self {
        let inverse_deviation: Vec<f64> = variance
            .iter()
            .map(|variance| 1.0 / (variance + epsilon).sqrt())
            .collect();
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&inverse_deviation)
            .map(|(gamma, inverse)| gamma * inverse)
            .collect();
        let shift = beta
            .iter()
            .zip(&scale)
            .zip(&mean)
            .map(|((beta, scale), mean)| beta - scale * mean)
            .collect();
        Self {
            mean,
            variance,
            inverse_deviation,
            scale,
            shift,
        }
    }

    /// The gradients of gamma and beta, and how the input's gradient follows from the output's.
    ///
    /// - `sum`: of the output's gradient over all `count` positions
    /// - `weighted_sum`: of the output's gradient times the centred input over all positions
    pub(crate) fn gradient(&self, count: f64, sum: &[f64], weighted_sum: &[f64]) -> NormGradient {
        let gamma: Vec<f64> = weighted_sum
            .iter()
            .zip(&self.inverse_deviation)
            .map(|(sum, inverse)| sum * inverse)
            .collect();
        let constant = sum
            .iter()
            .zip(&self.scale)
            .map(|(sum, scale)| scale * sum / count)
            .collect();
        let slope = gamma
            .iter()
            .zip(&self.inverse_deviation)
            .zip(&self.scale)
            .map(|((gamma, inverse), scale)| scale * inverse * gamma / count)
            .collect();
        NormGradient {
            gamma,
            beta: sum.to_vec(),
            constant,
            slope,
        }
    }
}

impl Normalization {
    /// As [`gradient`](Self::gradient), of a shard of a batch where it is one: the sums are the shard's, `count` is of the whole batch,
    /// gamma's and beta's gradients are the shard's share, and the input's follows from the sums of all shards.
    pub(crate) fn shared_gradient(
        &self,
        batch: Option<&SharedBatch>,
        count: f64,
        sum: &[f64],
        weighted_sum: &[f64],
    ) -> NormGradient {
        let own = self.gradient(count, sum, weighted_sum);
        let Some(batch) = batch else { return own };
        let all = batch.sum_gradients([sum, weighted_sum].concat());
        let (sum, weighted_sum) = all.split_at(sum.len());
        let all = self.gradient(count, sum, weighted_sum);
        NormGradient {
            constant: all.constant,
            slope: all.slope,
            ..own
        }
    }
}

/// Input gradient: `scale * gradient - constant - slope * (value - mean)`.
#[derive(Clone, Debug)]
pub(crate) struct NormGradient {
    pub(crate) gamma: Vec<f64>,
    pub(crate) beta: Vec<f64>,
    pub(crate) constant: Vec<f64>,
    pub(crate) slope: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_a_grid_are_those_of_the_zeros_too() {
        let grid = [3.0, 5.0];
        let all = [3.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0];
        let mean = all.iter().sum::<f64>() / 8.0;
        let variance = all
            .iter()
            .map(|value: &f64| (value - mean).powi(2))
            .sum::<f64>()
            / 8.0;
        let grid_mean = (grid[0] + grid[1]) / 2.0;
        let norm = Normalization::of_grid(&[grid_mean], &[1.0], 4.0, &[2.0], &[1.0], 0.0);
        assert!((norm.mean[0] - mean).abs() < 1e-12 && (norm.variance[0] - variance).abs() < 1e-12);
        assert!(
            (norm.scale[0] * 5.0 + norm.shift[0] - (2.0 * (5.0 - mean) / variance.sqrt() + 1.0))
                .abs()
                < 1e-12
        );
    }
}
