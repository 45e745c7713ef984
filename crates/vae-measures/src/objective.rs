//! What is minimised, and what is reported.

/// Nats an image as bits per dimension: `nats / (dimensions ln 2)`.
///
/// Meaningful only for a distribution over grey levels; see [`Likelihood::is_over_levels`](crate::Likelihood::is_over_levels).
pub fn bits_per_dim(nats: f64, dimensions: usize) -> f64 {
    nats / (dimensions as f64 * std::f64::consts::LN_2)
}

/// KL divergence of each latent dimension with free bits (Kingma et al. 2016): the sum over dimensions of
/// `max(free, mean over the whole batch)`, in nats.
///
/// The mean is over the whole batch: the maximum of each datum, or of a shard of a batch, is another and larger objective.
pub fn free_bits(mean_kl_per_dimension: &[f64], free: f64) -> f64 {
    mean_kl_per_dimension.iter().map(|kl| kl.max(free)).sum()
}

/// Derivative of [`free_bits`] by each dimension's mean: 1 where more than `free` nats are used, else 0.
pub fn free_bits_gradient(mean_kl_per_dimension: &[f64], free: f64) -> Vec<f64> {
    let slope = |kl: &f64| f64::from(u8::from(*kl > free));
    mean_kl_per_dimension.iter().map(slope).collect()
}
