//! The loss summed over the images of a pass, for means in which every image counts alike.

use serde::{Deserialize, Serialize};

use super::Terms;

/// Running sums over the images of a pass over a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermSums {
    cross_entropy: f64,
    kl: f64,
    l2: f64,
    images: usize,
    /// Of what was minimised, where that is not the sum of the others; left out of a state where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objective: Option<f64>,
}

impl TermSums {
    /// Adds a batch: cross-entropy and KL summed over its images, and the penalties, which are the same for each.
    pub fn add(&mut self, [cross_entropy, kl, l2]: [f64; 3], images: usize) {
        self.cross_entropy += cross_entropy;
        self.kl += kl;
        self.l2 += l2 * images as f64;
        self.images += images;
    }

    /// Adds what was minimised over a batch whose terms have been [added](Self::add): its mean over the images.
    pub fn add_objective(&mut self, objective: f64, images: usize) {
        *self.objective.get_or_insert(0.0) += objective * images as f64;
    }

    /// Mean of what was minimised, in nats an image; none where it is the sum of the terms.
    pub fn objective(&self) -> Option<f64> {
        self.objective
            .map(|objective| objective / self.images as f64)
    }

    /// Images added so far.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Means in nats an image, with the split's floor for the excess; NaN where there was no image.
    pub fn means(&self, floor: f64) -> Terms {
        let mean = |sum: f64| sum / self.images as f64;
        let (cross_entropy, kl, l2) = (mean(self.cross_entropy), mean(self.kl), mean(self.l2));
        Terms {
            loss: cross_entropy + kl + l2,
            cross_entropy,
            excess: cross_entropy - floor,
            kl,
            l2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_counts_alike() {
        let mut sums = TermSums::default();
        sums.add([30.0, 3.0, 7.0], 3);
        sums.add([50.0, 5.0, 11.0], 1);
        let means = sums.means(15.0);
        assert_eq!(means.cross_entropy, 20.0);
        assert_eq!(means.excess, 5.0);
        assert_eq!(means.kl, 2.0);
        assert_eq!(means.l2, 8.0);
        assert_eq!(means.loss, 30.0);
        assert!(TermSums::default().means(0.0).loss.is_nan());
        assert_eq!(sums.objective(), None);
    }

    #[test]
    fn an_objective_of_its_own_is_averaged_over_the_images() {
        let mut sums = TermSums::default();
        for (objective, images) in [(4.0, 3), (8.0, 1)] {
            sums.add([0.0; 3], images);
            sums.add_objective(objective, images);
        }
        assert_eq!(sums.objective(), Some(5.0));
        let state = serde_json::to_string(&sums).expect("numbers");
        assert_eq!(
            serde_json::from_str::<TermSums>(&state).expect("the same"),
            sums
        );
        // States of runs without one stay as they were.
        let state = serde_json::to_string(&TermSums::default()).expect("numbers");
        assert!(!state.contains("objective"), "{state}");
    }
}
