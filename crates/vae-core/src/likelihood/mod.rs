//! Distributions of an image given the decoder's output map: log-probability, mean image and draws.
//!
//! A grey level k, 0 to 255, is 2 k / 255 - 1 on the scale of the logistic and Gaussian parameters. A level's probability is
//! the distribution's mass within half a level of it; the lowest and the highest level have the tails too. Log-scales below
//! -7 count as -7.
//!
//! Everything is computed in float32, or in float64 where the map is, whatever the precision of the model's products.

mod bernoulli;
#[cfg(feature = "flex")]
mod flex;
mod gaussian;
mod level_bounds;
mod levels;
mod logistic;
mod mixture;
mod reduction;
mod renormalised_bernoulli;
mod sinh_series;

use burn::prelude::*;
use burn::tensor::activation::sigmoid;
use vae_measures::Likelihood;

pub use bernoulli::bernoulli_cross_entropy;
use reduction::full_precision;

/// Random numbers from which [`PixelLikelihood::sample`] draws an image.
#[derive(Clone, Debug)]
pub struct PixelNoise {
    /// Uniform in (0, 1), of a mixture only; `[batch, components, height, width]`
    pub component: Option<Tensor<4>>,
    /// Uniform in (0, 1), for a Gaussian standard normal; `[batch, channels, height, width]`
    pub pixel: Tensor<4>,
}

/// What a likelihood makes of the decoder's output map, whose channels
/// [`Likelihood::map_channels`] tells.
pub trait PixelLikelihood {
    /// Negative log-probability of each image, in nats; under [`Likelihood::Bernoulli`] the cross-entropy.
    ///
    /// # Shapes
    /// - map: `[batch, map_channels, height, width]`
    /// - images: `[batch, channels, height, width]`, in \[0, 1\]; all but Bernoulli round them to their nearest level
    /// - output: `[batch]`
    ///
    /// # Panics
    /// If the map has another number of channels.
    fn nll(self, map: Tensor<4>, images: Tensor<4>) -> Tensor<1>;

    /// The image to show: the distribution's mean, or for logistic and Gaussian the mean of their parameters within
    /// \[0, 1\].
    ///
    /// # Shapes
    /// - map: `[batch, map_channels, height, width]`
    /// - output: `[batch, channels, height, width]`, in \[0, 1\]
    fn mean_image(self, map: Tensor<4>) -> Tensor<4>;

    /// A draw of each image: grey levels over 255. Of [`Likelihood::Bernoulli`] zeros and ones.
    ///
    /// # Shapes
    /// - map: `[batch, map_channels, height, width]`
    /// - output: `[batch, channels, height, width]`, in \[0, 1\]
    ///
    /// # Panics
    /// If a mixture is given no noise for its components.
    fn sample(self, map: Tensor<4>, noise: PixelNoise) -> Tensor<4>;
}

impl PixelLikelihood for Likelihood {
    fn nll(self, map: Tensor<4>, images: Tensor<4>) -> Tensor<1> {
        let (map, images) = (full_precision(map), full_precision(images));
        assert_channels(self, &map, images.dims()[1]);
        #[cfg(feature = "flex")]
        if let Some(nll) = flex::nll(&map, &images, self) {
            return nll;
        }
        match self {
            Self::Bernoulli => bernoulli_cross_entropy(map, images),
            Self::RenormalisedBernoulli => renormalised_bernoulli::nll(map, images),
            Self::Logistic { .. } => {
                let (mean, log_scale) = mean_and_log_scale(map);
                logistic::nll(mean, log_scale, images)
            }
            Self::Gaussian { .. } => {
                let (mean, log_scale) = mean_and_log_scale(map);
                gaussian::nll(mean, log_scale, images)
            }
            Self::LogisticMixture { components } => mixture::nll(map, images, components),
        }
    }

    fn mean_image(self, map: Tensor<4>) -> Tensor<4> {
        let map = full_precision(map);
        match self {
            Self::Bernoulli => sigmoid(map),
            Self::RenormalisedBernoulli => renormalised_bernoulli::mean(map),
            Self::Logistic { .. } | Self::Gaussian { .. } => {
                levels::to_unit_interval(mean_and_log_scale(map).0.clamp(-1.0, 1.0))
            }
            Self::LogisticMixture { components } => {
                levels::to_unit_interval(mixture::mean_by_component(map, components))
            }
        }
    }

    fn sample(self, map: Tensor<4>, noise: PixelNoise) -> Tensor<4> {
        let map = full_precision(map);
        let PixelNoise { component, pixel } = noise;
        match self {
            Self::Bernoulli => pixel.lower(sigmoid(map)).float(),
            Self::RenormalisedBernoulli => renormalised_bernoulli::sample(map, pixel),
            Self::Logistic { .. } => {
                let (mean, log_scale) = mean_and_log_scale(map);
                levels::levels_to_unit_interval(logistic::sample(mean, log_scale, pixel))
            }
            Self::Gaussian { .. } => {
                let (mean, log_scale) = mean_and_log_scale(map);
                levels::levels_to_unit_interval(gaussian::sample(mean, log_scale, pixel))
            }
            Self::LogisticMixture { components } => {
                let component = component.expect("a mixture's draw needs noise for its components");
                let drawn = mixture::sample(map, component, pixel, components);
                levels::levels_to_unit_interval(drawn)
            }
        }
    }
}

#[track_caller]
fn assert_channels(likelihood: Likelihood, map: &Tensor<4>, image_channels: usize) {
    let (found, expected) = (map.dims()[1], likelihood.map_channels(image_channels));
    assert_eq!(
        found, expected,
        "{likelihood} of {image_channels} colours reads {expected} channels, not {found}"
    );
}

/// The two halves of a map.
fn mean_and_log_scale(map: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let channels = map.dims()[1] / 2;
    (
        map.clone().narrow(1, 0, channels),
        map.narrow(1, channels, channels),
    )
}
