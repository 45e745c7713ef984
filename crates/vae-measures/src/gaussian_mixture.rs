//! Mixtures of Gaussians with full covariances, fitted by expectation maximisation: a prior for a trained decoder.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use serde::{Deserialize, Serialize};

use crate::importance::LogMeanExp;

const LOG_TWO_PI: f64 = 1.837_877_066_409_345_3;
/// Added to every variance, relative to the mean variance of the data, so that no component shrinks onto one point.
const RELATIVE_FLOOR: f64 = 1e-6;

/// A mixture of Gaussians.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianMixture {
    /// Dimensions of a point.
    pub dimensions: usize,
    /// Of the components; they sum to 1.
    pub weights: Vec<f64>,
    /// `[components, dimensions]`
    pub means: Vec<f64>,
    /// Lower triangular factors L of the covariances L L^T, row by row; `[components, dimensions, dimensions]`
    pub factors: Vec<f64>,
}

/// How a mixture is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixtureFit {
    /// Number of components.
    pub components: usize,
    /// Passes over the data at most.
    pub iterations: usize,
    /// The fit ends when a pass gains less than so many nats a point.
    pub tolerance: f64,
}

/// Data that no mixture can be fitted to, or numbers that are no mixture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MixtureError {
    /// Fewer points than the covariances need: a component takes one more than it has dimensions.
    #[error(
        "{points} points are too few for {components} components of {dimensions} dimensions, each of which takes {}: {}",
        dimensions + 1, fitting_components(*points, *dimensions)
    )]
    TooFewPoints {
        /// Points given.
        points: usize,
        /// Components asked for.
        components: usize,
        /// Dimensions of a point.
        dimensions: usize,
    },
    /// A value is not finite.
    #[error("a value of the data is not finite")]
    NotFinite,
    /// Lengths, weights or factors that belong to no mixture.
    #[error("the numbers are those of no mixture: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

/// How many components so many points allow, in words.
fn fitting_components(points: usize, dimensions: usize) -> String {
    match points / (dimensions + 1) {
        0 => format!("give at least {} points", dimensions + 1),
        most => format!("take at most {most}"),
    }
}

impl GaussianMixture {
    /// Fits a mixture to points, `[points, dimensions]`.
    ///
    /// The first means are spread over the data (k-means++, Arthur and Vassilvitskii 2007), all covariances begin as the
    /// data's own. `uniform` gives numbers in \[0, 1) and decides where the first means are.
    ///
    /// # Errors
    /// [`MixtureError::TooFewPoints`] of fewer than `components (dimensions + 1)` points, with which a component's covariance would lie in
    /// fewer dimensions than the points; [`MixtureError::NotFinite`].
    ///
    /// # Panics
    /// If there are no dimensions, no components, or the points are not whole.
    pub fn fit(
        points: &[f64],
        dimensions: usize,
        options: MixtureFit,
        mut uniform: impl FnMut() -> f64,
    ) -> Result<Self, MixtureError> {
        let MixtureFit {
            components,
            iterations,
            tolerance,
        } = options;
        assert!(
            dimensions > 0 && components > 0,
            "a mixture has dimensions and components"
        );
        assert_eq!(points.len() % dimensions, 0, "points are whole");
        let count = points.len() / dimensions;
        if count < components.saturating_mul(dimensions + 1) {
            return Err(MixtureError::TooFewPoints {
                points: count,
                components,
                dimensions,
            });
        }
        if points.iter().any(|value| !value.is_finite()) {
            return Err(MixtureError::NotFinite);
        }
        let whole = Moments::of(points, dimensions, |_| 1.0);
        let trace: f64 = (0..dimensions)
            .map(|i| whole.covariance[i * dimensions + i])
            .sum();
        let floor = (RELATIVE_FLOOR * trace / dimensions as f64).max(f64::MIN_POSITIVE);
        let factor = whole.factor(floor);
        let mut mixture = Self {
            dimensions,
            weights: vec![1.0 / components as f64; components],
            means: spread_means(points, dimensions, components, &mut uniform),
            factors: factor.repeat(components),
        };
        let mut before = f64::NEG_INFINITY;
        let mut shares = vec![0.0; count * components];
        for _ in 0..iterations {
            let likelihood = mixture.expect(points, &mut shares) / count as f64;
            for component in 0..components {
                let share = |point: usize| shares[point * components + component];
                let moments = Moments::of(points, dimensions, share);
                // A component that explains nothing stays as it is.
                if moments.total > 1e-9 * count as f64 {
                    mixture.weights[component] = moments.total / count as f64;
                    mixture.means[component * dimensions..][..dimensions]
                        .copy_from_slice(&moments.mean);
                    let size = dimensions * dimensions;
                    mixture.factors[component * size..][..size]
                        .copy_from_slice(&moments.factor(floor));
                }
            }
            let sum: f64 = mixture.weights.iter().sum();
            mixture.weights.iter_mut().for_each(|weight| *weight /= sum);
            if likelihood - before < tolerance {
                break;
            }
            before = likelihood;
        }
        Ok(mixture)
    }

    /// Checks lengths, weights and factors, for numbers that come from a file.
    ///
    /// # Errors
    /// [`MixtureError::Malformed`].
    pub fn validate(&self) -> Result<(), MixtureError> {
        let (components, dimensions) = (self.weights.len(), self.dimensions);
        // A file may name any number of dimensions.
        let means = components.checked_mul(dimensions);
        let factors = means.and_then(|means| means.checked_mul(dimensions));
        let reason = if components == 0 || dimensions == 0 {
            "it is empty"
        } else if means != Some(self.means.len()) || factors != Some(self.factors.len()) {
            "lengths do not agree"
        } else if self
            .means
            .iter()
            .chain(&self.factors)
            .any(|value| !value.is_finite())
        {
            "a value is not finite"
        } else if self
            .weights
            .iter()
            .any(|weight| !(0.0..=1.0).contains(weight))
            || (self.weights.iter().sum::<f64>() - 1.0).abs() > 1e-6
        {
            "the weights do not sum to 1"
        } else if (0..components * dimensions).any(|row| {
            let diagonal = row * dimensions + row % dimensions;
            self.factors[diagonal] <= 0.0
        }) {
            "a covariance is not positive"
        } else {
            return Ok(());
        };
        Err(MixtureError::Malformed { reason })
    }

    /// Log-density of one point, in nats.
    pub fn log_density(&self, point: &[f64]) -> f64 {
        let mut sum = LogMeanExp::new();
        let mut solved = vec![0.0; self.dimensions];
        for component in 0..self.weights.len() {
            sum.add(self.log_joint(component, point, &mut solved));
        }
        sum.value() + (self.weights.len() as f64).ln()
    }

    /// A draw: the component that `uniform` chooses, at `normal` deviations from its mean.
    ///
    /// # Panics
    /// If `normal` has another number of dimensions.
    pub fn draw(&self, uniform: f64, normal: &[f64]) -> Vec<f64> {
        let dimensions = self.dimensions;
        assert_eq!(normal.len(), dimensions, "dimensions of the noise");
        let mut rest = uniform;
        let chosen = self.weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        let component = chosen.unwrap_or(self.weights.len() - 1);
        let factor = &self.factors[component * dimensions * dimensions..];
        let mean = &self.means[component * dimensions..][..dimensions];
        let value = |(row, mean): (usize, &f64)| {
            let row = &factor[row * dimensions..][..=row];
            mean + row.iter().zip(normal).map(|(a, b)| a * b).sum::<f64>()
        };
        mean.iter().enumerate().map(value).collect()
    }

    /// log(weight) + log density of one component; `solved` is room for its work.
    fn log_joint(&self, component: usize, point: &[f64], solved: &mut [f64]) -> f64 {
        let dimensions = self.dimensions;
        let factor = &self.factors[component * dimensions * dimensions..];
        let mean = &self.means[component * dimensions..][..dimensions];
        let mut value = self.weights[component].ln() - 0.5 * dimensions as f64 * LOG_TWO_PI;
        for row in 0..dimensions {
            let of_row = &factor[row * dimensions..][..=row];
            let before: f64 = of_row[..row].iter().zip(&*solved).map(|(a, b)| a * b).sum();
            let distance = (point[row] - mean[row] - before) / of_row[row];
            solved[row] = distance;
            value -= of_row[row].ln() + 0.5 * distance * distance;
        }
        value
    }

    /// The components' shares in each point, `[points, components]`, and the sum of log-densities.
    fn expect(&self, points: &[f64], shares: &mut [f64]) -> f64 {
        let components = self.weights.len();
        let mut solved = vec![0.0; self.dimensions];
        let mut total = 0.0;
        for (point, shares) in points
            .chunks(self.dimensions)
            .zip(shares.chunks_mut(components))
        {
            let mut largest = f64::NEG_INFINITY;
            for (component, share) in shares.iter_mut().enumerate() {
                *share = self.log_joint(component, point, &mut solved);
                largest = largest.max(*share);
            }
            let sum: f64 = shares.iter().map(|share| (share - largest).exp()).sum();
            total += largest + sum.ln();
            shares
                .iter_mut()
                .for_each(|share| *share = (*share - largest).exp() / sum);
        }
        total
    }
}

/// Weighted moments of points.
struct Moments {
    total: f64,
    mean: Vec<f64>,
    /// Lower triangle.
    covariance: Vec<f64>,
}

impl Moments {
    fn of(points: &[f64], dimensions: usize, share: impl Fn(usize) -> f64) -> Self {
        let mut mean = vec![0.0; dimensions];
        let mut total = 0.0;
        for (index, point) in points.chunks(dimensions).enumerate() {
            let share = share(index);
            total += share;
            mean.iter_mut()
                .zip(point)
                .for_each(|(mean, value)| *mean += share * value);
        }
        mean.iter_mut()
            .for_each(|mean| *mean /= total.max(f64::MIN_POSITIVE));
        let mut covariance = vec![0.0; dimensions * dimensions];
        let mut centred = vec![0.0; dimensions];
        for (index, point) in points.chunks(dimensions).enumerate() {
            let share = share(index);
            if share < 1e-12 {
                continue;
            }
            let each = centred.iter_mut().zip(point).zip(&mean);
            each.for_each(|((centred, value), mean)| *centred = value - mean);
            for row in 0..dimensions {
                let scaled = share * centred[row];
                let of_row = &mut covariance[row * dimensions..][..=row];
                of_row
                    .iter_mut()
                    .zip(&centred)
                    .for_each(|(sum, value)| *sum += scaled * value);
            }
        }
        covariance
            .iter_mut()
            .for_each(|sum| *sum /= total.max(f64::MIN_POSITIVE));
        Self {
            total,
            mean,
            covariance,
        }
    }

    /// The Cholesky factor of the covariance plus `floor` on its diagonal.
    fn factor(&self, floor: f64) -> Vec<f64> {
        let size = self.mean.len();
        let mut lower = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..=i {
                let before: f64 = (0..j)
                    .map(|k| lower[i * size + k] * lower[j * size + k])
                    .sum();
                let rest = self.covariance[i * size + j] - before;
                // Rounding may leave a little less than nothing of a dimension that others determine.
                lower[i * size + j] = if i == j {
                    (rest + floor).max(floor).sqrt()
                } else {
                    rest / lower[j * size + j]
                };
            }
        }
        lower
    }
}

/// Points far from each other: each next one with a probability in proportion to its squared distance to those chosen.
fn spread_means(
    points: &[f64],
    dimensions: usize,
    components: usize,
    uniform: &mut impl FnMut() -> f64,
) -> Vec<f64> {
    let count = points.len() / dimensions;
    let point = |index: usize| &points[index * dimensions..][..dimensions];
    let first = ((uniform() * count as f64) as usize).min(count - 1);
    let mut means = point(first).to_vec();
    let mut distances = vec![f64::INFINITY; count];
    while means.len() < components * dimensions {
        let last = &means[means.len() - dimensions..];
        for (index, distance) in distances.iter_mut().enumerate() {
            let squares = point(index)
                .iter()
                .zip(last)
                .map(|(a, b)| (a - b) * (a - b));
            *distance = distance.min(squares.sum());
        }
        let mut rest = uniform() * distances.iter().sum::<f64>();
        let chosen = distances.iter().position(|distance| {
            rest -= distance;
            rest < 0.0
        });
        means.extend_from_slice(point(chosen.unwrap_or(count - 1)));
    }
    means
}

#[cfg(test)]
mod tests;
