//! Batches as a pure function of (seed, epoch, index).

#[cfg(feature = "burn")]
pub(crate) mod device_images;
mod image_batch;
#[cfg(feature = "burn")]
mod tensor;

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::augment::{Augment, Placement};
use crate::permutation::{DataDraw, permutation};
use crate::pixel_entropy::shown_pixel_entropy;
use crate::split::View;

pub use image_batch::ImageBatch;
use image_batch::gather;

/// How the images of a view are grouped into batches.
///
/// Holds no position and no generator: any batch of any epoch can be asked for at any time, and is always the same.
///
/// ```
/// use cifar_loader::{Augment, BatchPlan, Cifar10};
///
/// let view = Cifar10::sample()?.train();
/// let size = 25.try_into().expect("not zero");
/// let plan = BatchPlan::training(view, size, 42, Augment::Flip);
/// assert_eq!(plan.num_batches(), 80);
/// assert_eq!(plan.batch(3, 7), plan.epoch(3).batch(7));
/// # Ok::<(), cifar_loader::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchPlan {
    view: View,
    batch_size: usize,
    /// `None` keeps the order of the view.
    shuffle_seed: Option<u64>,
    augment: Augment,
    drops_last: bool,
}

impl BatchPlan {
    /// Shuffled anew each epoch; a last short batch is dropped unless it is the only one.
    pub fn training(view: View, batch_size: NonZeroUsize, seed: u64, augment: Augment) -> Self {
        Self {
            view,
            batch_size: batch_size.get(),
            shuffle_seed: Some(seed),
            augment,
            drops_last: true,
        }
    }

    /// In the order of the view, without augmentation; a last short batch is kept.
    pub fn evaluation(view: View, batch_size: NonZeroUsize) -> Self {
        Self {
            view,
            batch_size: batch_size.get(),
            shuffle_seed: None,
            augment: Augment::None,
            drops_last: false,
        }
    }

    /// Keeps a last short batch.
    pub fn keep_last(self) -> Self {
        Self {
            drops_last: false,
            ..self
        }
    }

    /// The images that batches are made of.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How its images are changed.
    pub fn augment(&self) -> Augment {
        self.augment
    }

    /// Images in every batch but a last short one, or in the only one of a smaller view.
    pub fn batch_size(&self) -> usize {
        self.batch_size.min(self.view.len())
    }

    /// Batches in an epoch.
    pub fn num_batches(&self) -> usize {
        let whole = self.view.len() / self.batch_size;
        if self.drops_last && whole > 0 {
            whole
        } else {
            self.view.len().div_ceil(self.batch_size)
        }
    }

    /// One epoch, with its order worked out once.
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let order = match self.shuffle_seed {
            Some(seed) => permutation(DataDraw::Shuffle, seed, epoch, self.view.len()),
            None => (0..self.view.len() as u32).collect(),
        };
        Epoch {
            plan: self,
            epoch,
            order,
        }
    }

    /// One batch; the same as `self.epoch(epoch).batch(index)`.
    ///
    /// # Panics
    /// When `index` is not below [`num_batches`](Self::num_batches).
    pub fn batch(&self, epoch: u64, index: usize) -> ImageBatch {
        self.epoch(epoch).batch(index)
    }
}

/// One epoch of a [`BatchPlan`].
#[derive(Clone, Debug)]
pub struct Epoch<'a> {
    plan: &'a BatchPlan,
    epoch: u64,
    order: Vec<u32>,
}

impl Epoch<'_> {
    /// Batches in the epoch.
    pub fn num_batches(&self) -> usize {
        self.plan.num_batches()
    }

    /// The batch at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`num_batches`](Self::num_batches).
    pub fn batch(&self, index: usize) -> ImageBatch {
        gather(
            &self.plan.view,
            &self.order[self.range(index)],
            |record_index, image, out| self.draw(record_index).apply(image, out),
        )
    }

    /// The plan that the epoch is one of.
    pub fn plan(&self) -> &BatchPlan {
        self.plan
    }

    /// Positions in the view of all its images, in the order of the epoch; a dropped batch's are the last.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The range of [`order`](Self::order) that is the batch at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`num_batches`](Self::num_batches).
    pub fn range(&self, index: usize) -> Range<usize> {
        let num_batches = self.num_batches();
        assert!(
            index < num_batches,
            "batch {index} of an epoch of {num_batches} batches"
        );
        let start = index * self.plan.batch_size;
        start..self.order.len().min(start + self.plan.batch_size)
    }

    /// How the image at `position` of the view is changed in this epoch.
    ///
    /// # Panics
    /// When `position` is past the end of the view.
    pub fn placement(&self, position: u32) -> Placement {
        self.draw(self.plan.view.record_index(position as usize))
    }

    /// The sum of the [floors](crate::image_pixel_entropy) of a batch's images as they are shown, in nats: a crop leaves pixels out and
    /// puts black ones in their place, whose entropy is zero.
    ///
    /// # Panics
    /// When `index` is not below [`num_batches`](Self::num_batches).
    pub fn pixel_entropy(&self, index: usize) -> f64 {
        let positions = self.order[self.range(index)].iter();
        let floors = positions.map(|position| {
            let image = self.plan.view.image(*position as usize);
            shown_pixel_entropy(image, self.placement(*position))
        });
        floors.sum()
    }

    fn draw(&self, record_index: u32) -> Placement {
        let seed = self.plan.shuffle_seed.unwrap_or(0);
        self.plan.augment.draw(seed, self.epoch, record_index)
    }

    /// All batches in order.
    pub fn batches(&self) -> impl Iterator<Item = ImageBatch> + '_ {
        (0..self.num_batches()).map(|index| self.batch(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use proptest::prelude::*;

    fn size(batch_size: usize) -> NonZeroUsize {
        NonZeroUsize::new(batch_size).unwrap()
    }

    fn training(images: usize, batch_size: usize, seed: u64) -> BatchPlan {
        let view = Cifar10::sample().unwrap().train().first(images);
        BatchPlan::training(view, size(batch_size), seed, Augment::FlipCrop)
    }

    #[test]
    fn training_drops_the_short_batch_and_evaluation_keeps_it() {
        let plan = training(103, 25, 1);
        assert_eq!(plan.num_batches(), 4);
        let plan = plan.keep_last();
        assert_eq!(plan.num_batches(), 5);
        assert_eq!(plan.batch(0, 4).len(), 3);
        let plan = BatchPlan::evaluation(plan.view().clone(), size(25));
        let positions: Vec<_> = plan
            .epoch(0)
            .batches()
            .flat_map(|batch| batch.positions().to_vec())
            .collect();
        assert!(positions.into_iter().eq(0..103));
        assert_eq!(training(3, 25, 1).batch(0, 0).len(), 3);
        assert_eq!(training(0, 25, 1).num_batches(), 0);
    }

    #[test]
    fn a_batch_is_the_same_whatever_was_asked_before() {
        let plan = training(100, 8, 5);
        let alone = plan.batch(2, 9);
        plan.epoch(1).batches().for_each(drop);
        plan.epoch(2).batches().take(3).for_each(drop);
        assert_eq!(plan.batch(2, 9), alone);
        assert_eq!(training(100, 8, 5).epoch(2).batch(9), alone);
        assert_ne!(plan.batch(3, 9), alone);
        assert_ne!(training(100, 8, 6).batch(2, 9), alone);
    }

    /// The order of the first images of a run; a change of these numbers changes every run.
    #[test]
    fn the_first_batch_is_pinned() {
        assert_eq!(
            training(1000, 5, 42).batch(0, 0).positions(),
            [917, 649, 397, 575, 350]
        );
        assert_eq!(
            training(1000, 5, 42).batch(1, 0).positions(),
            [470, 124, 865, 760, 853]
        );
    }

    #[test]
    fn the_floor_of_a_batch_is_that_of_the_bytes_shown() {
        for augment in [Augment::None, Augment::Flip, Augment::FlipCrop] {
            let view = Cifar10::sample().unwrap().train().first(60);
            let plan = BatchPlan::training(view, size(20), 3, augment);
            let mut all = 0.0;
            for index in 0..3 {
                let epoch = plan.epoch(4);
                let floor = epoch.pixel_entropy(index);
                let shown = crate::pixel_entropy::image_pixel_entropy(epoch.batch(index).images());
                assert!(
                    (floor / shown - 1.0).abs() < 1e-12,
                    "{augment}: {floor} and {shown}"
                );
                all += floor / 60.0;
            }
            let raw = crate::pixel_entropy::pixel_entropy_floor(plan.view());
            let is_cropped = augment == Augment::FlipCrop;
            assert_eq!(
                (all / raw - 1.0).abs() > 0.05,
                is_cropped,
                "{augment}: {all} and {raw}"
            );
        }
    }

    #[test]
    fn values_are_bytes_over_255() {
        let batch = Cifar10::sample().unwrap().test().batch(&[3, 1]);
        let values = batch.to_f32();
        assert!(
            values
                .iter()
                .zip(batch.images())
                .all(|(value, byte)| *value == f32::from(*byte) / 255.0)
        );
    }

    #[test]
    #[should_panic(expected = "batch 4 of an epoch of 4 batches")]
    fn a_batch_past_the_end_panics() {
        training(103, 25, 1).batch(0, 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn an_epoch_yields_each_image_once(images in 1usize..200, batch_size in 1usize..70, seed: u64, epoch: u64) {
            let plan = training(images, batch_size, seed).keep_last();
            let epoch = plan.epoch(epoch);
            let mut positions: Vec<_> =
                epoch.batches().flat_map(|batch| batch.positions().to_vec()).collect();
            positions.sort_unstable();
            prop_assert!(positions.into_iter().eq(0..images as u32));
        }
    }
}
