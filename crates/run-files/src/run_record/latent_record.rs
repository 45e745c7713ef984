//! `latents.json`: what the latents of a finished run tell about its images, which is computed when somebody asks for it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::file_operations::read_at_most;
use crate::settings::Sampler;

/// The record, and its two pictures, in the run folder.
pub const LATENTS: &str = "latents.json";
/// A row for each of the most used dimensions.
pub const TRAVERSALS: &str = "traversals.png";
/// A row for each of a few pairs of test images.
pub const INTERPOLATIONS: &str = "interpolations.png";

/// A record has less than a kilobyte.
const LARGEST: u64 = 1 << 16;

/// Nearer to its ceiling than this share, the mutual information is only known to be at least the estimate.
const AT_CEILING: f64 = 0.95;

/// What the latents tell about the images: estimates over test images, nats an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentRecord {
    /// The epoch whose weights were measured.
    pub weights_of_epoch: u32,
    /// Test images that the estimates are of.
    pub images: u64,
    /// Mean KL divergence of their posteriors from the prior: the sum of the next two.
    pub average_kl: f64,
    /// Mutual information of latent and image.
    pub mutual_information: f64,
    /// KL divergence of the aggregated posterior, the mixture of all posteriors, from the prior.
    pub aggregated_posterior_kl: f64,
    /// The logarithm of the number of images, above which no estimate of the mutual information can be.
    pub ceiling: f64,
    /// Whether posteriors are what the post's sampler draws from, in a run that was trained with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_posts_draws: bool,
    /// The dimensions of [`TRAVERSALS`], in the order of its rows.
    pub traversed: Vec<usize>,
    /// The pairs of test images of [`INTERPOLATIONS`], in the order of its rows.
    pub interpolated: Vec<[u32; 2]>,
}

impl LatentRecord {
    /// Whether the estimate is at its ceiling, so that the mutual information may be larger and the aggregated posterior's
    /// divergence smaller.
    pub fn is_at_ceiling(&self) -> bool {
        self.mutual_information >= AT_CEILING * self.ceiling
    }

    /// The record's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("numbers and lists serialise");
        json.push(b'\n');
        json
    }

    /// The record of a run, where there is one of these weights and this sampler.
    pub fn read(run_dir: &Path, weights_of_epoch: u32, sampler: Sampler) -> Option<Self> {
        let bytes = read_at_most(&run_dir.join(LATENTS), LARGEST).ok()?;
        let record: Self = serde_json::from_slice(&bytes).ok()?;
        let is_of_these = record.weights_of_epoch == weights_of_epoch
            && record.is_of_posts_draws == (sampler == Sampler::Blog);
        is_of_these.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_for_its_own_weights_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = LatentRecord {
            weights_of_epoch: 3,
            images: 100,
            average_kl: 5.0,
            mutual_information: 4.5,
            aggregated_posterior_kl: 0.5,
            ceiling: 100f64.ln(),
            is_of_posts_draws: false,
            traversed: vec![4, 0],
            interpolated: vec![[0, 1]],
        };
        // log 100 is 4.605: 4.5 says "at least", 4 does not.
        assert!(record.is_at_ceiling());
        let below = LatentRecord {
            mutual_information: 4.0,
            ..record.clone()
        };
        assert!(!below.is_at_ceiling());
        // One image tells nothing: both are 0.
        let of_one = LatentRecord {
            mutual_information: 0.0,
            ceiling: 0.0,
            ..record.clone()
        };
        assert!(of_one.is_at_ceiling());
        let read = |epoch| LatentRecord::read(folder.path(), epoch, Sampler::Correct);
        assert_eq!(read(3), None);
        let path = folder.path().join(LATENTS);
        std::fs::write(&path, record.to_json()).expect("written");
        assert_eq!(read(3), Some(record.clone()));
        assert_eq!(read(4), None);
        // A program that measured another posterior than the decoder saw wrote this one.
        assert_eq!(LatentRecord::read(folder.path(), 3, Sampler::Blog), None);
        assert!(!String::from_utf8_lossy(&record.to_json()).contains("posts_draws"));
        std::fs::write(&path, b"{}").expect("written");
        assert_eq!(read(3), None);
    }
}
