//! What can go wrong with a prior.

use std::path::PathBuf;

use vae_measures::MixtureError;

/// Why there is no mixture prior.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriorError {
    /// No dimension is used: the prior is the posterior.
    #[error(
        "no dimension of the latent is used, so that a mixture has nothing to fit; sample with --prior normal"
    )]
    Collapsed,
    /// The posteriors' draws allow no such mixture.
    #[error(transparent)]
    Fit(#[from] MixtureError),
    /// A file that holds no mixture for this model.
    #[error("{} is no mixture prior of this model ({reason}): delete it, and it is fitted again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
