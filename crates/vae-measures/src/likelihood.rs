//! The distributions of a pixel given the decoder's output map, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a scale parameter comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// One parameter for each colour, the same at every position and for every image (as in IAF's model).
    Global,
    /// One output of the decoder for each value of each image.
    PerPixel,
}

/// The distribution of an image's pixels given the decoder's output map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Likelihood {
    /// Cross-entropy of grey levels in \[0, 1\] against a Bernoulli distribution, as in the 2018 post. No distribution over
    /// grey levels: it gives no bits per dimension.
    Bernoulli,
    /// The same family made a distribution over the 256 levels: p(k) proportional to exp(logit k / 255).
    RenormalisedBernoulli,
    /// A logistic distribution, discretised to the 256 levels.
    Logistic {
        /// Where its scale comes from.
        scale: Scale,
    },
    /// A mixture of discretised logistics whose means of green and blue depend on the colours before (PixelCNN++).
    LogisticMixture {
        /// Number of components.
        components: usize,
    },
    /// A Gaussian, discretised to the 256 levels.
    Gaussian {
        /// Where its standard deviation comes from.
        scale: Scale,
    },
}

/// Components that a mixture may have at most.
const MOST_COMPONENTS: usize = 100;

/// A text that names no likelihood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LikelihoodError {
    /// No likelihood has that name.
    #[error("`{given}` is none of {}", Likelihood::FORMS)]
    Unknown {
        /// What was given.
        given: String,
    },
    /// A mixture of that many components is not offered.
    #[error(
        "`{given}`: a mixture has 1 to {MOST_COMPONENTS} components; `logistic-mixture:10` is usual"
    )]
    Components {
        /// What was given.
        given: String,
    },
}

impl Likelihood {
    /// How the likelihoods are written.
    pub const FORMS: &'static str = "bernoulli, renormalised-bernoulli, logistic, logistic:global, logistic-mixture:K, gaussian, gaussian:global";

    /// The usual ones among them.
    pub const USUAL: [&'static str; 7] = [
        "bernoulli",
        "renormalised-bernoulli",
        "logistic",
        "logistic:global",
        "logistic-mixture:10",
        "gaussian",
        "gaussian:global",
    ];

    /// Whether this is a distribution over the 256 grey levels, so that its nats may be given as bits per dimension.
    pub fn is_over_levels(self) -> bool {
        self != Self::Bernoulli
    }

    /// Channels of the map that the likelihood reads.
    ///
    /// Bernoulli families: the logits. Logistic and Gaussian: the means, then the log-scales. Mixture of K: K logits, then
    /// for each colour K means, K log-scales and K raw coefficients; it needs three colours.
    pub fn map_channels(self, image_channels: usize) -> usize {
        match self {
            Self::Bernoulli | Self::RenormalisedBernoulli => image_channels,
            Self::Logistic { .. } | Self::Gaussian { .. } => 2 * image_channels,
            Self::LogisticMixture { components } => components * (1 + 3 * image_channels),
        }
    }

    /// Channels that the decoder's last convolution makes: those of the map but the global log-scales.
    pub fn decoder_channels(self, image_channels: usize) -> usize {
        if self.has_global_scale() {
            image_channels
        } else {
            self.map_channels(image_channels)
        }
    }

    /// Whether the log-scales are parameters of their own.
    pub fn has_global_scale(self) -> bool {
        matches!(
            self,
            Self::Logistic {
                scale: Scale::Global
            } | Self::Gaussian {
                scale: Scale::Global
            }
        )
    }

    /// Log-scale that a training starts from: the spread of all grey levels of natural images, about half of the scale from
    /// -1 to 1.
    fn initial_log_scale(self) -> Option<f32> {
        match self {
            Self::Bernoulli | Self::RenormalisedBernoulli => None,
            // A logistic distribution's deviation is pi / sqrt(3) scales.
            Self::Logistic { .. } | Self::LogisticMixture { .. } => Some(-1.3),
            Self::Gaussian { .. } => Some(-0.7),
        }
    }

    /// The global log-scale that a training starts from, where there is one.
    pub fn initial_global_log_scale(self) -> Option<f32> {
        self.initial_log_scale().filter(|_| self.has_global_scale())
    }

    /// Biases of the decoder's last convolution that a training starts from; none where all are zero.
    ///
    /// Log-scales start at the spread of all grey levels. A mixture's components have their means a little apart, from -0.9
    /// to 0.9, so that they have different things to explain.
    pub fn initial_biases(self, image_channels: usize) -> Option<Vec<f32>> {
        let log_scale = self
            .initial_log_scale()
            .filter(|_| !self.has_global_scale())?;
        let mut biases = vec![0.0; self.decoder_channels(image_channels)];
        match self {
            Self::LogisticMixture { components } => {
                let spread = |index: usize| 1.8 * ((index as f32 + 0.5) / components as f32 - 0.5);
                for colour in biases[components..].chunks_mut(3 * components) {
                    for component in 0..components {
                        // Green and blue are relative to the colours before, by coefficients that start near 0.
                        colour[component] = spread(component);
                        colour[components + component] = log_scale;
                    }
                }
            }
            _ => biases[image_channels..].fill(log_scale),
        }
        Some(biases)
    }

    /// Whether a model trained with `self` may be scored with `other`: they read the same map in the same way.
    pub fn can_be_scored_as(self, other: Self) -> bool {
        let is_bernoulli = |one| matches!(one, Self::Bernoulli | Self::RenormalisedBernoulli);
        self == other || is_bernoulli(self) && is_bernoulli(other)
    }
}

impl fmt::Display for Likelihood {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = |scale: &Scale| match scale {
            Scale::Global => ":global",
            Scale::PerPixel => "",
        };
        match self {
            Self::Bernoulli => formatter.write_str("bernoulli"),
            Self::RenormalisedBernoulli => formatter.write_str("renormalised-bernoulli"),
            Self::Logistic { scale: of } => write!(formatter, "logistic{}", scale(of)),
            Self::LogisticMixture { components } => {
                write!(formatter, "logistic-mixture:{components}")
            }
            Self::Gaussian { scale: of } => write!(formatter, "gaussian{}", scale(of)),
        }
    }
}

impl FromStr for Likelihood {
    type Err = LikelihoodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (global, per_pixel) = (Scale::Global, Scale::PerPixel);
        Ok(match text {
            "bernoulli" => Self::Bernoulli,
            "renormalised-bernoulli" => Self::RenormalisedBernoulli,
            "logistic" | "logistic:pixel" => Self::Logistic { scale: per_pixel },
            "logistic:global" => Self::Logistic { scale: global },
            "gaussian" | "gaussian:pixel" => Self::Gaussian { scale: per_pixel },
            "gaussian:global" => Self::Gaussian { scale: global },
            _ => {
                let given = || text.to_owned();
                let components = text
                    .strip_prefix("logistic-mixture")
                    .ok_or_else(|| LikelihoodError::Unknown { given: given() })?;
                match components.strip_prefix(':').map(str::parse) {
                    Some(Ok(components)) if (1..=MOST_COMPONENTS).contains(&components) => {
                        Self::LogisticMixture { components }
                    }
                    _ => return Err(LikelihoodError::Components { given: given() }),
                }
            }
        })
    }
}

impl TryFrom<String> for Likelihood {
    type Error = LikelihoodError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Likelihood> for String {
    fn from(likelihood: Likelihood) -> Self {
        likelihood.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in [
            "bernoulli",
            "renormalised-bernoulli",
            "logistic",
            "logistic:global",
            "logistic-mixture:1",
            "logistic-mixture:100",
            "gaussian",
            "gaussian:global",
        ] {
            let likelihood: Likelihood = text.parse().expect("a known name");
            assert_eq!(likelihood.to_string(), text);
        }
        let alias: Likelihood = "logistic:pixel".parse().expect("a known name");
        assert_eq!(alias.to_string(), "logistic");
    }

    #[test]
    fn a_wrong_name_is_told_what_there_is() {
        let found = |text: &str| {
            text.parse::<Likelihood>()
                .expect_err("no likelihood")
                .to_string()
        };
        assert!(found("bernouli").ends_with(Likelihood::FORMS));
        for text in [
            "logistic-mixture",
            "logistic-mixture:0",
            "logistic-mixture:101",
            "logistic-mixture:x",
        ] {
            assert!(found(text).contains("1 to 100 components"), "{text}");
        }
    }

    #[test]
    fn only_the_cross_entropy_is_no_distribution_over_levels() {
        let over_levels = |text: &str| {
            text.parse::<Likelihood>()
                .is_ok_and(Likelihood::is_over_levels)
        };
        assert!(!over_levels("bernoulli"));
        for text in [
            "renormalised-bernoulli",
            "logistic",
            "logistic-mixture:10",
            "gaussian:global",
        ] {
            assert!(over_levels(text), "{text}");
        }
    }

    #[test]
    fn a_model_is_scored_by_what_reads_its_map_alike() {
        let renormalised = Likelihood::RenormalisedBernoulli;
        assert!(Likelihood::Bernoulli.can_be_scored_as(renormalised));
        let (logistic, gaussian) = (
            Likelihood::Logistic {
                scale: Scale::PerPixel,
            },
            Likelihood::Gaussian {
                scale: Scale::PerPixel,
            },
        );
        assert!(logistic.can_be_scored_as(logistic));
        assert!(!logistic.can_be_scored_as(gaussian));
        assert!(!Likelihood::Bernoulli.can_be_scored_as(logistic));
    }
}
