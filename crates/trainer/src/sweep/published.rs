//! The table of the post that the experiment reproduces.

/// What the post reports of one depth, from a single run each, with losses in nats an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedRun {
    /// Layers.
    pub depth: u32,
    /// Hours on a GTX 1070.
    pub hours: f64,
    /// Seconds an epoch, where the post tells.
    pub seconds_per_epoch: Option<f64>,
    /// Epochs, where the post tells.
    pub epochs: Option<u32>,
    /// Lowest training loss of any epoch.
    pub best_training_loss: f64,
    /// Lowest loss on the test set, which it validated on, of any epoch.
    pub best_validation_loss: f64,
    /// KL divergence on the test set after the last epoch.
    pub last_kl: f64,
    /// Cross-entropy on the test set after the last epoch.
    pub last_cross_entropy: f64,
}

/// The pixels' own entropy over CIFAR-10's test set, in nats an image: the floor of `last_cross_entropy`.
pub const PUBLISHED_TEST_FLOOR: f64 = 1681.72;

/// "Residual Networks", a blog post of 2018 with Keras 2 code; the figures were read from its executed notebooks.
pub const PUBLISHED: [PublishedRun; 4] = [
    PublishedRun {
        depth: 28,
        hours: 79.2,
        seconds_per_epoch: Some(743.0),
        epochs: Some(384),
        best_training_loss: 1790.4,
        best_validation_loss: 1794.7,
        last_kl: 32.79,
        last_cross_entropy: 1763.28,
    },
    PublishedRun {
        depth: 40,
        hours: 61.9,
        seconds_per_epoch: Some(814.0),
        epochs: Some(274),
        best_training_loss: 1787.5,
        best_validation_loss: 1795.7,
        last_kl: 33.27,
        last_cross_entropy: 1764.05,
    },
    PublishedRun {
        depth: 70,
        hours: 80.0,
        seconds_per_epoch: Some(1379.0),
        epochs: Some(209),
        best_training_loss: 1784.8,
        best_validation_loss: 1799.0,
        last_kl: 32.48,
        last_cross_entropy: 1769.65,
    },
    PublishedRun {
        depth: 100,
        hours: 164.7,
        seconds_per_epoch: None,
        epochs: None,
        best_training_loss: 1782.3,
        best_validation_loss: 1804.0,
        last_kl: 29.94,
        last_cross_entropy: 1787.75,
    },
];

/// The post's row for a depth.
pub fn published(depth: u32) -> Option<&'static PublishedRun> {
    PUBLISHED.iter().find(|run| run.depth == depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_agree_with_each_other() {
        for run in &PUBLISHED {
            // A best loss cannot lie above the last one, to which the penalties would still be added.
            assert!(run.best_validation_loss <= run.last_cross_entropy + run.last_kl + 1.0);
            if let (Some(seconds), Some(epochs)) = (run.seconds_per_epoch, run.epochs) {
                let hours = seconds * f64::from(epochs) / 3600.0;
                assert!((hours - run.hours).abs() < 0.15, "{}: {hours}", run.depth);
            }
        }
    }

    #[test]
    fn published_excesses_are_those_of_the_experiments_description() {
        for (depth, excess) in [(28, 81.56), (40, 82.33), (70, 87.93), (100, 106.03)] {
            let run = published(depth).expect("a published depth");
            assert!((run.last_cross_entropy - PUBLISHED_TEST_FLOOR - excess).abs() < 1e-9);
        }
        assert_eq!(published(34), None);
    }
}
