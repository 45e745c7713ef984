//! The loss summed over the images of a pass, for means in which every image counts alike.

use serde::{Deserialize, Serialize};

use super::{BatchLoss, Terms};

/// Running sums over the images of a pass over a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermSums {
    cross_entropy: f64,
    kl: f64,
    l2: f64,
    images: usize,
    /// Of the floors of these images as they were shown, where that is not how they are in the split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    /// Of what was minimised, where that is not the sum of the others; left out of a state where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objective: Option<f64>,
}

impl TermSums {
    /// Adds a batch of so many images.
    pub fn add(&mut self, batch: BatchLoss, images: usize) {
        self.cross_entropy += batch.cross_entropy;
        self.kl += batch.kl;
        self.l2 += batch.l2 * images as f64;
        self.images += images;
    }

    /// As [`add`](Self::add), of images that were changed before they were shown: `floor` is the sum of their own floors.
    pub fn add_changed(&mut self, batch: BatchLoss, images: usize, floor: f64) {
        // Sums that another program began without floors go on without.
        if self.images == 0 || self.floor.is_some() {
            self.floor = Some(self.floor.unwrap_or(0.0) + floor);
        }
        self.add(batch, images);
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

    /// Means in nats an image, with the split's floor for the excess, unless the images came with floors of their own;
    /// NaN where there was no image.
    pub fn means(&self, floor: f64) -> Terms {
        let mean = |sum: f64| sum / self.images as f64;
        let (cross_entropy, kl, l2) = (mean(self.cross_entropy), mean(self.kl), mean(self.l2));
        let floor = self.floor.map_or(floor, mean);
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

    fn batch([cross_entropy, kl, l2]: [f64; 3]) -> BatchLoss {
        BatchLoss {
            cross_entropy,
            kl,
            l2,
        }
    }

    #[test]
    fn every_image_counts_alike() {
        let mut sums = TermSums::default();
        sums.add(batch([30.0, 3.0, 7.0]), 3);
        sums.add(batch([50.0, 5.0, 11.0]), 1);
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
            sums.add(BatchLoss::default(), images);
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

    #[test]
    fn changed_images_are_measured_by_their_own_floors() {
        let mut sums = TermSums::default();
        sums.add_changed(batch([30.0, 3.0, 7.0]), 3, 18.0);
        sums.add_changed(batch([50.0, 5.0, 11.0]), 1, 10.0);
        assert_eq!(sums.means(15.0).excess, 20.0 - 7.0);
        let json = serde_json::to_string(&sums).expect("numbers");
        assert_eq!(
            serde_json::from_str::<TermSums>(&json).expect("a sum"),
            sums
        );
        // Without a change nothing is added to a checkpoint, and one without floors can be read.
        let mut plain = TermSums::default();
        plain.add(batch([30.0, 3.0, 7.0]), 3);
        let json = serde_json::to_string(&plain).expect("numbers");
        assert!(!json.contains("floor"), "{json}");
        let mut read = serde_json::from_str::<TermSums>(&json).expect("a sum");
        read.add_changed(batch([50.0, 5.0, 11.0]), 1, 10.0);
        assert_eq!(read.means(15.0).excess, 5.0);
    }
}
