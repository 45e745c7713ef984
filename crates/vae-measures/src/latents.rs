//! What the latents carry: active units, mutual information, and the distance of all posteriors together to the prior.

use crate::importance::LogMeanExp;

/// Variance of a posterior mean over images above which a dimension counts as active (Burda et al. 2016).
pub const ACTIVE_VARIANCE: f64 = 0.01;

const LOG_TWO_PI: f64 = 1.837_877_066_409_345_3;

/// Mean and variance of each latent dimension's posterior mean over images, image by image (Welford 1962: far from zero
/// nothing is lost, as it would be with the mean of squares).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatentMoments {
    count: u64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl LatentMoments {
    /// Of no images, with that many dimensions.
    pub fn new(dimensions: usize) -> Self {
        Self {
            count: 0,
            means: vec![0.0; dimensions],
            squares: vec![0.0; dimensions],
        }
    }

    /// Takes one image's posterior mean in.
    ///
    /// # Panics
    /// If it has another number of dimensions.
    pub fn add(&mut self, mean: &[f64]) {
        assert_eq!(
            mean.len(),
            self.means.len(),
            "dimensions of a posterior mean"
        );
        self.count += 1;
        for ((of, squares), value) in self.means.iter_mut().zip(&mut self.squares).zip(mean) {
            let before = value - *of;
            *of += before / self.count as f64;
            *squares += before * (value - *of);
        }
    }

    /// Variance over the images (divided by their number) of each dimension.
    pub fn variances(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.squares.iter().map(|squares| squares / count).collect()
    }

    /// Dimensions whose variance is above [`ACTIVE_VARIANCE`].
    pub fn active_units(&self) -> usize {
        self.variances()
            .iter()
            .filter(|variance| **variance > ACTIVE_VARIANCE)
            .count()
    }
}

/// The mean KL divergence to the prior in two terms (Hoffman and Johnson 2016): what the latent tells about which image it
/// came from, and how far all posteriors together are from the prior. In nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentInformation {
    /// Mean KL divergence of the posteriors to the standard normal.
    pub average_kl: f64,
    /// Estimate of the mutual information of image index and latent. It cannot exceed `ceiling`.
    pub mutual_information: f64,
    /// Estimate of the KL divergence of the mixture of all posteriors to the prior: `average_kl - mutual_information`. Where
    /// the mutual information is at its ceiling this is only an upper bound of what more images would show.
    pub marginal_kl: f64,
    /// log N: N images cannot be told apart by more.
    pub ceiling: f64,
}

impl LatentInformation {
    /// Estimates both terms from N diagonal Gaussians and draws of them, in `N^2 draws dimensions` operations.
    ///
    /// # Shapes
    /// - means, log_variances: `[images, dimensions]`
    /// - noise: `[images, draws, dimensions]`, standard normal
    ///
    /// # Panics
    /// If the lengths do not agree or there are no images.
    pub fn estimate(
        means: &[f64],
        log_variances: &[f64],
        noise: &[f64],
        dimensions: usize,
    ) -> Self {
        assert!(dimensions > 0 && !means.is_empty(), "there are latents");
        assert_eq!(
            means.len(),
            log_variances.len(),
            "values of means and log-variances"
        );
        let images = means.len() / dimensions;
        assert_eq!(images * dimensions, means.len(), "whole posteriors");
        let draws = noise.len() / means.len();
        assert!(
            draws > 0 && draws * means.len() == noise.len(),
            "draws of every image"
        );

        let kl = |(mean, log_variance): (&f64, &f64)| {
            0.5 * (log_variance.exp_m1() - log_variance + mean * mean)
        };
        let average_kl = means.iter().zip(log_variances).map(kl).sum::<f64>() / images as f64;

        // log q(z given n) = constants[n] - sum over dimensions of (z - mean)^2 precision / 2
        let half_precisions: Vec<f64> = log_variances
            .iter()
            .map(|value| 0.5 * (-value).exp())
            .collect();
        let constants: Vec<f64> = log_variances
            .chunks(dimensions)
            .map(|row| -0.5 * row.iter().map(|value| LOG_TWO_PI + value).sum::<f64>())
            .collect();
        let log_density = |latent: &[f64], image: usize| {
            let at = image * dimensions..(image + 1) * dimensions;
            let distance = latent
                .iter()
                .zip(&means[at.clone()])
                .zip(&half_precisions[at]);
            constants[image]
                - distance
                    .map(|((z, mean), half)| (z - mean) * (z - mean) * half)
                    .sum::<f64>()
        };
        let mut total = 0.0;
        let mut latent = vec![0.0; dimensions];
        for (index, noise) in noise.chunks(dimensions).enumerate() {
            let image = index / draws;
            let at = image * dimensions..(image + 1) * dimensions;
            let posterior = means[at.clone()].iter().zip(&log_variances[at]);
            for ((z, noise), (mean, log_variance)) in latent.iter_mut().zip(noise).zip(posterior) {
                *z = mean + (0.5 * log_variance).exp() * noise;
            }
            let mut marginal = LogMeanExp::new();
            (0..images).for_each(|other| marginal.add(log_density(&latent, other)));
            total += log_density(&latent, image) - marginal.value();
        }
        let mutual_information = total / (images * draws) as f64;
        Self {
            average_kl,
            mutual_information,
            marginal_kl: average_kl - mutual_information,
            ceiling: (images as f64).ln(),
        }
    }

    /// Whether the estimate says little because it is close to what so few images allow: within 5 % of the ceiling.
    pub fn is_at_ceiling(&self) -> bool {
        self.mutual_information >= 0.95 * self.ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_is_at_its_ceiling_of_nothing() {
        let found = LatentInformation::estimate(&[0.3, -1.0], &[-1.0, 0.5], &[0.7, -0.2], 2);
        assert_eq!((found.mutual_information, found.ceiling), (0.0, 0.0));
        assert!(found.is_at_ceiling());
    }
}
