//! Which configurations a model can be built from.

use resnet_blocks::NormConfig;
use vae_measures::Likelihood;

use super::VaeConfig;

/// A configuration no model can be built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size that must not be zero is.
    #[error("`{field}` is 0; it must be at least 1")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// The three halvings of the encoder need a multiple of eight pixels.
    #[error("`image_size` is {found}; it must be a multiple of 8")]
    ImageSize {
        /// What was given, in pixels.
        found: usize,
    },
    /// The decoder spreads the dense features over the smallest map.
    #[error(
        "`intermediate_dim` is {found}; it must be a multiple of the {positions} positions of the smallest map"
    )]
    IntermediateDim {
        /// What was given.
        found: usize,
        /// Positions of the smallest map.
        positions: usize,
    },
    /// A number of the norms or of the likelihood that no model can have.
    #[error("`{field}` is {found}; it must be {range}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What was given.
        found: String,
        /// What it may be.
        range: &'static str,
    },
    /// The mixture's means depend on the colours before.
    #[error("`{likelihood}` is for images of 3 colours, not {found}")]
    Colours {
        /// The likelihood.
        likelihood: Likelihood,
        /// `image_channels` given.
        found: usize,
    },
}

impl VaeConfig {
    /// Checks the sizes against each other, and the numbers of norms and likelihood.
    ///
    /// # Errors
    /// Where a size is zero or does not divide as the model needs, or a number is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            (
                "stage_widths",
                self.stage_widths.into_iter().min().unwrap_or(0),
            ),
            ("intermediate_dim", self.intermediate_dim),
            ("latent_dim", self.latent_dim),
            ("image_channels", self.image_channels),
            ("image_size", self.image_size),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Zero { field });
        }
        if !self.image_size.is_multiple_of(8) {
            return Err(ConfigError::ImageSize {
                found: self.image_size,
            });
        }
        let positions = self.positions();
        if !self.intermediate_dim.is_multiple_of(positions) {
            return Err(ConfigError::IntermediateDim {
                found: self.intermediate_dim,
                positions,
            });
        }
        let NormConfig { epsilon, momentum } = self.norm;
        let out_of_range = |field, found: f64, range| {
            Err(ConfigError::OutOfRange {
                field,
                found: found.to_string(),
                range,
            })
        };
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return out_of_range("norm.epsilon", epsilon, "positive and finite");
        }
        if !(0.0..=1.0).contains(&momentum) {
            return out_of_range("norm.momentum", momentum, "between 0 and 1");
        }
        if let Likelihood::LogisticMixture { components } = self.likelihood {
            if components == 0 {
                return Err(ConfigError::Zero {
                    field: "likelihood.components",
                });
            }
            if self.image_channels != 3 {
                return Err(ConfigError::Colours {
                    likelihood: self.likelihood,
                    found: self.image_channels,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::depth::Depth;

    #[test]
    fn numbers_that_no_norm_or_likelihood_has_are_refused() {
        let refused = |change: fn(&mut VaeConfig)| {
            let mut config = VaeConfig::preset(Depth::Depth28);
            change(&mut config);
            let error = config.validate().expect_err("refused");
            error.to_string()
        };
        assert_eq!(
            refused(|config| config.norm.epsilon = 0.0),
            "`norm.epsilon` is 0; it must be positive and finite"
        );
        assert!(refused(|config| config.norm.epsilon = f64::NAN).contains("NaN"));
        assert_eq!(
            refused(|config| config.norm.momentum = 1.5),
            "`norm.momentum` is 1.5; it must be between 0 and 1"
        );
        assert!(refused(|config| config.norm.momentum = f64::NAN).contains("NaN"));
        assert_eq!(
            refused(|config| config.likelihood = Likelihood::LogisticMixture { components: 0 }),
            "`likelihood.components` is 0; it must be at least 1"
        );
    }

    #[test]
    fn sizes_that_do_not_divide_are_refused_with_a_reason() {
        let config = VaeConfig::preset(Depth::Depth28);
        assert_eq!(config.validate(), Ok(()));
        let found = config.clone().with_intermediate_dim(40).validate();
        assert_eq!(
            found,
            Err(ConfigError::IntermediateDim {
                found: 40,
                positions: 16
            })
        );
        let found = config.clone().with_image_size(30).validate();
        assert_eq!(found, Err(ConfigError::ImageSize { found: 30 }));
        let found = config.with_latent_dim(0).validate();
        assert_eq!(
            found,
            Err(ConfigError::Zero {
                field: "latent_dim"
            })
        );
    }
}
