//! What training needs of a data set, wherever its images come from.

use std::fmt::Debug;

use crate::dataset::{Cifar10, Source};
use crate::digest::Sha256Digest;
use crate::error::Error;
use crate::image_format::{CHANNELS, HEIGHT, WIDTH};
use crate::split::{SplitOptions, Splits, View, split};

/// Labelled images, those to learn from and those to be scored on.
pub trait ImageSet: Debug + Send + Sync {
    /// Its name, in records of a run.
    fn name(&self) -> &str;

    /// Where it was read from.
    fn source(&self) -> &Source;

    /// A hash of all its images and labels, and of nothing else.
    fn fingerprint(&self) -> Sha256Digest;

    /// The images to learn from, a part of which may be held out for validation.
    fn train(&self) -> View;

    /// The images for the final figures.
    fn test(&self) -> View;

    /// Channels, rows and columns of an image: the same for all sets, since all are [`View`]s of [`Records`](crate::Records).
    fn shape(&self) -> [usize; 3] {
        [CHANNELS, HEIGHT, WIDTH]
    }

    /// Bytes that its images take on a device that holds them.
    fn image_bytes(&self) -> u64 {
        let images = self.train().len() + self.test().len();
        (images * self.shape().iter().product::<usize>()) as u64
    }

    /// Splits the images. Each view keeps the file order, and limits apply after the split.
    ///
    /// # Errors
    /// [`Error::EmptySplit`] when a split would hold no image.
    fn split(&self, options: &SplitOptions) -> Result<Splits, Error> {
        split(&self.train(), self.test(), options)
    }
}

impl ImageSet for Cifar10 {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn source(&self) -> &Source {
        Self::source(self)
    }

    fn fingerprint(&self) -> Sha256Digest {
        Self::fingerprint(self)
    }

    fn train(&self) -> View {
        Self::train(self)
    }

    fn test(&self) -> View {
        Self::test(self)
    }
}

impl<T: ImageSet + ?Sized> ImageSet for Box<T> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn source(&self) -> &Source {
        (**self).source()
    }

    fn fingerprint(&self) -> Sha256Digest {
        (**self).fingerprint()
    }

    fn train(&self) -> View {
        (**self).train()
    }

    fn test(&self) -> View {
        (**self).test()
    }

    fn shape(&self) -> [usize; 3] {
        (**self).shape()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_behind_the_trait_is_split_as_the_set_itself() {
        let sample = Cifar10::sample().expect("embedded");
        let options = SplitOptions {
            seed: 3,
            limit_train: Some(50),
            ..SplitOptions::default()
        };
        let own = sample.split(&options).expect("three splits");
        let set: &dyn ImageSet = &sample;
        let of_trait = set.split(&options).expect("three splits");
        let indices =
            |view: &View| -> Vec<u32> { (0..view.len()).map(|at| view.record_index(at)).collect() };
        assert_eq!(indices(&own.train), indices(&of_trait.train));
        assert_eq!(indices(&own.valid), indices(&of_trait.valid));
        assert_eq!(own.train.len(), 50);
        assert_eq!(set.image_bytes(), 2500 * 3072);
    }
}
