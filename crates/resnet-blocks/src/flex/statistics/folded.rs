//! A 1x1 convolution and the batch norm behind it as one product.
//!
//! For `h = W a` over `count` pixels the statistics of `h` follow from mean and covariance of `a`:
//!
//! ```text
//! mean(h) = W mean(a)        variance(h) = diag(W Cov(a) W^T)
//! ```
//!
//! so the norm's output is one product with scaled weights and `h` is never stored. In backward, the product
//! `P = g (a - mean(a))^T` of the output's gradient `g` gives the gradients of weights, gamma and beta, and the gradient
//! of `a` is `(diag(scale) W)^T g - M (a - mean(a)) - constant` with a small matrix `M`. The same holds where `h` stands
//! on a grid among zeros; see [`Normalization`].

use crate::flex::element::{relu, transpose};
use crate::flex::product::{Factor, Mode, multiply};
use crate::flex::statistics::moments::Moments;
use crate::flex::statistics::normalization::Normalization;
use crate::shared_batch::SharedBatch;

/// A pointwise convolution whose norm is folded into its weights.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    channels_in: usize,
    channels_out: usize,
    spread: f64,
    /// `[channels_out, channels_in]`
    weight: Vec<f64>,
    /// Of the input: count, mean and products. Of a shard of a batch, the count is the shard's, the mean that of the whole batch, and the
    /// products those of the shard about it.
    pub(crate) input: Moments,
    /// The batch that it is a shard of, and the count over all of it.
    shared: Option<(SharedBatch, f64)>,
    /// `W Cov(a)`, `[channels_out, channels_in]`
    weighted_covariance: Vec<f64>,
    pub(crate) norm: Normalization,
}

/// What the gradient of a folded layer's output gives.
pub(crate) struct FoldedGradient {
    /// `[channels_out, channels_in]`
    pub(crate) weight: Vec<f64>,
    pub(crate) gamma: Vec<f64>,
    pub(crate) beta: Vec<f64>,
    /// `[channels_in, channels_in]`, symmetric: times the centred input, to be subtracted from the input's gradient.
    pub(crate) correction: Vec<f64>,
    /// `[channels_in]`, to be subtracted too.
    pub(crate) constant: Vec<f64>,
}

impl Folded {
    /// Takes the norm's statistics from those of the input, and from those of the other shards of the batch where it has some.
    pub(crate) fn train(
        weight: Vec<f64>,
        input: Moments,
        spread: f64,
        [gamma, beta]: [&[f64]; 2],
        epsilon: f64,
        batch: Option<&SharedBatch>,
    ) -> Self {
        let (channels_in, channels_out) = (input.mean.len(), gamma.len());
        let own = OutputMoments::of(&weight, &input);
        let (input, own, grid_variance, shared) = match batch {
            None => {
                // Rounding may leave a vanishing variance a little below zero.
                let variance = own.variance.iter().map(|variance| relu(*variance));
                let variance = variance.collect::<Vec<f64>>();
                (input, own, variance, None)
            }
            Some(batch) => {
                let (input, count, variance) = shared_moments(&weight, input, &own, batch);
                let own = OutputMoments::of(&weight, &input);
                (input, own, variance, Some((batch.clone(), count)))
            }
        };
        let OutputMoments {
            mean: grid_mean,
            weighted_covariance,
            ..
        } = own;
        let norm = Normalization::of_grid(&grid_mean, &grid_variance, spread, gamma, beta, epsilon);
        Self {
            channels_in,
            channels_out,
            spread,
            weight,
            input,
            shared,
            weighted_covariance,
            norm,
        }
    }

    /// `diag(scale) W`, transposed: `[channels_in, channels_out]`.
    pub(crate) fn scaled_weight(&self) -> Vec<f64> {
        scaled_weight(&self.weight, &self.norm.scale)
    }

    /// - `products`: of the output's gradient on the grid and the centred input, `[channels_in, channels_out]`
    /// - `grid_sum`: of the output's gradient on the grid
    /// - `sum`: of the output's gradient over all positions
    pub(crate) fn gradient(
        &self,
        products: &[f64],
        grid_sum: &[f64],
        sum: &[f64],
    ) -> FoldedGradient {
        let (inputs, count) = (self.channels_in, self.input.count);
        let (batch, count_of_all) = match &self.shared {
            None => (None, count),
            Some((batch, of_all)) => (Some(batch), *of_all),
        };
        let products = transpose(products, inputs, self.channels_out);
        let norm = &self.norm;
        let grid_mean: Vec<f64> = norm.mean.iter().map(|mean| mean * self.spread).collect();
        let weighted_sum: Vec<f64> = (0..self.channels_out)
            .map(|channel| {
                let row = channel * inputs..(channel + 1) * inputs;
                let centred: f64 = self.weight[row.clone()]
                    .iter()
                    .zip(&products[row])
                    .map(|(a, b)| a * b)
                    .sum();
                centred + grid_mean[channel] * grid_sum[channel] - norm.mean[channel] * sum[channel]
            })
            .collect();
        let gradient = norm.shared_gradient(batch, count_of_all * self.spread, sum, &weighted_sum);
        let mut weight = vec![0.0; self.weight.len()];
        let mut constant = vec![0.0; inputs];
        let mut sloped = self.weight.clone();
        for channel in 0..self.channels_out {
            let (scale, slope) = (norm.scale[channel], gradient.slope[channel]);
            let offset = grid_mean[channel] - norm.mean[channel];
            let of_mean =
                scale * grid_sum[channel] - count * (gradient.constant[channel] + slope * offset);
            let pull = gradient.constant[channel] + slope * offset;
            for (input, constant) in constant.iter_mut().enumerate() {
                let index = channel * inputs + input;
                weight[index] = scale * products[index]
                    - count * slope * self.weighted_covariance[index]
                    + of_mean * self.input.mean[input];
                *constant += pull * self.weight[index];
                sloped[index] *= slope;
            }
        }
        let mut correction = vec![0.0; inputs * inputs];
        multiply(
            &mut correction,
            inputs,
            [inputs, inputs, self.channels_out],
            Factor::columns(&self.weight, inputs),
            Factor::rows(&sloped, inputs),
            Mode::Overwrite,
        );
        FoldedGradient {
            weight,
            gamma: gradient.gamma,
            beta: gradient.beta,
            correction,
            constant,
        }
    }
}

/// Mean and variance of `W a`, and `W Cov(a)`.
struct OutputMoments {
    mean: Vec<f64>,
    /// Perhaps a little below zero.
    variance: Vec<f64>,
    weighted_covariance: Vec<f64>,
}

impl OutputMoments {
    fn of(weight: &[f64], input: &Moments) -> Self {
        let channels_in = input.mean.len();
        let channels_out = weight.len() / channels_in;
        let covariance = input.covariance();
        let mut weighted_covariance = vec![0.0; channels_out * channels_in];
        // Row by row of the result; the covariance is symmetric.
        multiply(
            &mut weighted_covariance,
            channels_in,
            [channels_in, channels_out, channels_in],
            Factor::columns(&covariance, channels_in),
            Factor::columns(weight, channels_in),
            Mode::Overwrite,
        );
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let rows = || weight.chunks_exact(channels_in);
        let mean = rows().map(|row| dot(row, &input.mean)).collect();
        let variance = rows()
            .zip(weighted_covariance.chunks_exact(channels_in))
            .map(|(row, other)| dot(row, other));
        Self {
            mean,
            variance: variance.collect(),
            weighted_covariance,
        }
    }
}

/// A shard's moments of the input about the mean of the whole batch, the count of all shards, and the variance of `W a` over them.
///
/// The products of pairs of channels stay where they are: only the variance travels, and the gradient of the weights needs no more than
/// the shard's own products.
fn shared_moments(
    weight: &[f64],
    input: Moments,
    own: &OutputMoments,
    batch: &SharedBatch,
) -> (Moments, f64, Vec<f64>) {
    let channels = input.mean.len();
    let mut sums = vec![input.count];
    sums.extend(input.mean.iter().map(|mean| input.count * mean));
    let squares = own.variance.iter().zip(&own.mean);
    sums.extend(squares.map(|(variance, mean)| input.count * (variance + mean * mean)));
    let sums = batch.sum(sums);
    let (count, sums) = (sums[0], &sums[1..]);
    let mean: Vec<f64> = sums[..channels].iter().map(|sum| sum / count).collect();
    let of_output = weight.chunks_exact(channels).map(|row| {
        let products = row.iter().zip(&mean).map(|(weight, mean)| weight * mean);
        products.sum::<f64>()
    });
    let squares = sums[channels..].iter().zip(of_output);
    let variance = squares.map(|(square, mean)| relu(square / count - mean * mean));
    let variance = variance.collect();
    let distance: Vec<f64> = input.mean.iter().zip(&mean).map(|(a, b)| a - b).collect();
    let mut second = input.second;
    for (index, sum) in second.iter_mut().enumerate() {
        *sum += input.count * distance[index / channels] * distance[index % channels];
    }
    let input = Moments {
        count: input.count,
        mean,
        second,
    };
    (input, count, variance)
}

/// `diag(scale) W`, transposed: `[channels_in, channels_out]`.
pub(crate) fn scaled_weight(weight: &[f64], scale: &[f64]) -> Vec<f64> {
    let inputs = weight.len() / scale.len();
    let scaled: Vec<f64> = weight
        .chunks_exact(inputs)
        .zip(scale)
        .flat_map(|(row, scale)| row.iter().map(move |value| value * scale))
        .collect();
    transpose(&scaled, scale.len(), inputs)
}
