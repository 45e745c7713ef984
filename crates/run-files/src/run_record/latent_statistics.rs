//! How a model uses each dimension of its latent, as `summary.json` has it.

use serde::Deserialize;

use crate::nullable;

/// A dimension whose posterior mean varies more than this over the images is active (Burda, Grosse and Salakhutdinov
/// 2016, "Importance weighted autoencoders", section 5.2).
pub const ACTIVE_ABOVE: f64 = 0.01;

/// Each dimension of the latent, over the images of a split.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LatentStatistics {
    /// KL divergence of the posterior from the prior, in nats an image; `[latent_dim]`
    #[serde(deserialize_with = "nullable::numbers")]
    pub kl_per_dimension: Vec<f64>,
    /// Variance over the images of the posterior's mean, divided by the number of images; `[latent_dim]`
    #[serde(deserialize_with = "nullable::numbers")]
    pub mean_variance: Vec<f64>,
}

impl LatentStatistics {
    /// Number of active dimensions: those whose mean varies by more than [`ACTIVE_ABOVE`].
    pub fn active(&self) -> usize {
        let variances = self.mean_variance.iter();
        variances
            .filter(|variance| **variance > ACTIVE_ABOVE)
            .count()
    }

    /// Whether the decoder ignores the latent, or almost: no dimension is active, or all of them together tell less than a nat.
    pub fn is_collapsed(&self) -> bool {
        // Not a number is no collapse.
        self.active() == 0 && self.kl_per_dimension.iter().all(|kl| kl.is_finite())
            || self.kl_per_dimension.iter().sum::<f64>() < LEAST_KL
    }

    /// What a collapse is and what helps, for those who see one.
    pub fn collapse_warning(&self) -> Option<String> {
        self.is_collapsed().then(|| {
            format!(
                "the posterior has collapsed: {} of {} latent dimensions are active and all together tell {:.2} nats an image, so \
                 that the decoder makes almost the same of every latent; `--kl-warmup linear:STEPS`, `--free-bits 0.1` or \
                 `--beta` below 1 keep the latent in use, and more epochs may bring it into use",
                self.active(),
                self.mean_variance.len(),
                self.kl_per_dimension.iter().sum::<f64>()
            )
        })
    }
}

/// Less than this many nats an image is as good as no latent.
const LEAST_KL: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_is_told_with_its_cure() {
        let of = |kl: &[f64], variance: &[f64]| LatentStatistics {
            kl_per_dimension: kl.to_vec(),
            mean_variance: variance.to_vec(),
        };
        // Used, unused, hardly used, and a model that is not finite, which another message is about.
        assert_eq!(of(&[3.0, 0.0], &[0.9, 0.0]).collapse_warning(), None);
        let warning = of(&[0.001, 0.0], &[0.001, 0.0]).collapse_warning();
        let warning = warning.expect("collapsed");
        assert!(
            warning.contains("0 of 2") && warning.contains("--kl-warmup"),
            "{warning}"
        );
        assert!(of(&[0.4, 0.3], &[0.5, 0.4]).is_collapsed());
        assert!(!of(&[f64::NAN, 0.0], &[0.0, 0.0]).is_collapsed());
    }
}
