//! The loss of a batch, term by term.

/// The terms of a batch's loss, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchLoss {
    /// Summed over the images.
    pub cross_entropy: f64,
    /// KL divergence of the posterior from the prior, summed over the images.
    pub kl: f64,
    /// The penalties on the weights, which are the same for each image.
    pub l2: f64,
}

impl BatchLoss {
    /// Adds the loss of other images of the same batch: of a shard, or of a micro-batch.
    pub fn add(&mut self, other: Self) {
        self.cross_entropy += other.cross_entropy;
        self.kl += other.kl;
        // All shards have the same penalties, unless one of them computes what is not a number.
        if self.l2.is_finite() {
            self.l2 = other.l2;
        }
    }

    /// The mean over the batch's images, in nats an image.
    pub fn mean(self, images: usize) -> f64 {
        (self.cross_entropy + self.kl) / images as f64 + self.l2
    }

    /// What is minimised, as a mean over the batch's images: with `weighted_kl`, the mean KL divergence as the objective has it.
    pub fn objective(self, images: usize, weighted_kl: f64) -> f64 {
        self.cross_entropy / images as f64 + weighted_kl + self.l2
    }

    /// The terms with their names.
    pub fn named(self) -> [(&'static str, f64); 3] {
        [
            ("cross-entropy", self.cross_entropy),
            ("KL divergence", self.kl),
            ("L2 penalty", self.l2),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_once_in_a_batch_of_several_shards() {
        let shard = |cross_entropy, kl, l2| BatchLoss {
            cross_entropy,
            kl,
            l2,
        };
        let mut batch = BatchLoss::default();
        batch.add(shard(30.0, 3.0, 7.0));
        batch.add(shard(50.0, 5.0, 7.0));
        assert_eq!(batch, shard(80.0, 8.0, 7.0));
        assert_eq!(batch.mean(4), 29.0);
        assert_eq!(batch.objective(4, 0.5), 27.5);
        // What one shard computed of them stays visible.
        batch.add(shard(0.0, 0.0, f64::NAN));
        batch.add(shard(0.0, 0.0, 7.0));
        assert!(batch.l2.is_nan() && batch.mean(4).is_nan());
    }
}
