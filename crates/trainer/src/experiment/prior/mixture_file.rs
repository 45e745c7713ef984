//! The file of a mixture.

use std::path::{Path, PathBuf};

use super::error::PriorError;
use super::mixture_prior::MixturePrior;

/// A file of a mixture is read up to this size, in bytes: 1,000 components of 256 dimensions as text.
pub(crate) const LARGEST_PRIOR: u64 = 2 << 30;

impl MixturePrior {
    /// The file of a mixture of so many components, in the run folder.
    pub fn path(run_dir: &Path, components: usize) -> PathBuf {
        run_dir.join(format!("prior-mixture-{components}.json"))
    }

    /// Whether a file of that name in a run folder is one of these.
    pub(crate) fn is_file_name(name: &str) -> bool {
        name.strip_prefix("prior-mixture-")
            .and_then(|rest| rest.strip_suffix(".json"))
            .is_some_and(|components| components.parse::<u32>().is_ok())
    }

    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and lists serialise")
    }

    /// Reads what [`to_json`](Self::to_json) gave.
    ///
    /// # Errors
    /// [`PriorError::Malformed`] where the bytes are no mixture of a model with `latent_dim` dimensions.
    pub fn from_json(path: &Path, bytes: &[u8], latent_dim: usize) -> Result<Self, PriorError> {
        let refuse = |reason: String| PriorError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let prior: Self =
            serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        prior
            .mixture
            .validate()
            .map_err(|error| refuse(error.to_string()))?;
        let values = prior.mixture.means.iter().chain(&prior.mixture.factors);
        if values.into_iter().any(|value| !(*value as f32).is_finite()) {
            return Err(refuse("a value is too large".to_owned()));
        }
        let is_fitting = prior.latent_dim == latent_dim
            && prior.dimensions.len() == prior.mixture.dimensions
            && prior.dimensions.is_sorted_by(|a, b| a < b)
            && prior
                .dimensions
                .last()
                .is_none_or(|last| *last < latent_dim);
        if is_fitting {
            Ok(prior)
        } else {
            Err(refuse("its dimensions are others".to_owned()))
        }
    }
}
