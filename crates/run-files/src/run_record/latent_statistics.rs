//! How a model uses each dimension of its latent, as `summary.json` has it.

/// A dimension whose posterior mean varies more than this over the images is active (Burda, Grosse and Salakhutdinov
/// 2016, "Importance weighted autoencoders", section 5.2).
pub const ACTIVE_ABOVE: f64 = 0.01;

/// Each dimension of the latent, over the images of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatentStatistics {
    /// KL divergence of the posterior from the prior, in nats an image; `[latent_dim]`
    pub kl_per_dimension: Vec<f64>,
    /// Variance over the images of the posterior's mean, divided by the number of images; `[latent_dim]`
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
}
