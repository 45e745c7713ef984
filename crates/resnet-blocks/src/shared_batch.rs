//! Norms over a batch that is divided into shards, each computed by a thread of its own: their statistics are those of all shards.
//!
//! What a norm needs to know of the other shards are a few sums a channel, forward and backward. Who adds them up, and in which order,
//! is the caller's affair: a [`SharedBatch`] holds the function, and blocks and [`normalize`](crate::normalize) call it wherever they would
//! have used the shard's own sums. Every shard makes the same calls in the same order, so that each call can wait for those of the others.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A shard of a batch, as seen by the norms.
#[derive(Clone)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))] // Without kernels nobody asks for a sum.
pub struct SharedBatch {
    images: usize,
    /// Images of the shard.
    own: usize,
    sum: Arc<dyn Fn(Vec<f64>) -> Vec<f64> + Send + Sync>,
}

thread_local! {
    static PRESENT: RefCell<Option<SharedBatch>> = const { RefCell::new(None) };
}

#[cfg_attr(not(feature = "flex"), allow(dead_code))]
impl SharedBatch {
    /// A shard of `own` images of a batch of `images`.
    ///
    /// `sum` adds up what all shards call it with, entry by entry, and gives each of them the sum.
    ///
    /// # Panics
    /// If the shard is empty or larger than the batch.
    pub fn new(
        images: usize,
        own: usize,
        sum: impl Fn(Vec<f64>) -> Vec<f64> + Send + Sync + 'static,
    ) -> Self {
        assert!(
            0 < own && own <= images,
            "a shard of {own} images of a batch of {images}"
        );
        Self {
            images,
            own,
            sum: Arc::new(sum),
        }
    }

    /// Runs a forward pass, and its backward pass where it is made within, whose norms have the statistics of the whole batch.
    ///
    /// Gradients are expected to be those of the mean over the shard's own images; the mean of the shards' gradients, each weighted with
    /// its images, is then that of the whole batch. Blocks and [`normalize`](crate::normalize) do this on flex; see
    /// [`is_known`](Self::is_known).
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<SharedBatch>);
        impl Drop for Restore {
            fn drop(&mut self) {
                PRESENT.set(self.0.take());
            }
        }
        let _restore = Restore(PRESENT.replace(Some(self)));
        work()
    }

    /// Whether blocks and norms on this device know of shared batches.
    pub fn is_known(device: &burn::prelude::Device) -> bool {
        #[cfg(feature = "flex")]
        return matches!(
            device.clone().inner().as_dispatch(),
            burn::backend::DispatchDevice::Flex(_)
        );
        #[cfg(not(feature = "flex"))]
        {
            let _ = device;
            false
        }
    }

    /// The batch of which this thread computes a shard.
    pub(crate) fn present() -> Option<Self> {
        PRESENT.with_borrow(Clone::clone)
    }

    /// How many positions the whole batch has where the shard has so many: each image has equally many.
    pub(crate) fn positions(&self, own: usize) -> usize {
        assert!(
            own.is_multiple_of(self.own),
            "{own} positions of {} images",
            self.own
        );
        own / self.own * self.images
    }

    /// The shard's share of the batch.
    fn share(&self) -> f64 {
        self.own as f64 / self.images as f64
    }

    /// The sum over all shards.
    pub(crate) fn sum(&self, own: Vec<f64>) -> Vec<f64> {
        let length = own.len();
        let sum = (self.sum)(own);
        assert_eq!(sum.len(), length, "a sum has as many entries as its terms");
        sum
    }

    /// The sum of gradients over all shards, in this shard's scale: each has those of the mean over its own images.
    pub(crate) fn sum_gradients(&self, own: Vec<f64>) -> Vec<f64> {
        let of_batch = own.into_iter().map(|value| value * self.share()).collect();
        let sum = self.sum(of_batch).into_iter();
        sum.map(|value| value / self.share()).collect()
    }
}

impl fmt::Debug for SharedBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} images", self.own, self.images)
    }
}
