//! Where batches are made: on the host, or on a device that holds the split.
//!
//! A processor's device is the host; on a GPU a split lies as bytes, and a step copies nothing there but its noise. The
//! batches are the same.

#[cfg(feature = "cube")]
use std::sync::Arc;

use burn::prelude::*;
use cifar_loader::{BatchPlan, Epoch, View};
#[cfg(feature = "cube")]
use cifar_loader::{CHANNELS, HEIGHT, IMAGE_BYTES, WIDTH};
#[cfg(feature = "cube")]
use vae_device_step::{Pick, ResidentImages};

use crate::experiment::batch_images::BatchImages;
#[cfg(feature = "cube")]
use crate::experiment::batch_images::ResidentBatch;

/// Where batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImagePlace {
    /// By the processor, batch by batch.
    Host,
    /// By the device, which holds all images where it has a buffer of that size.
    Device,
}

impl ImagePlace {
    /// The device where it is a GPU.
    pub(crate) fn of(device: &Device) -> Self {
        if is_gpu(device) {
            Self::Device
        } else {
            Self::Host
        }
    }
}

/// Whether it is one of CubeCL's devices, on which Burn's operations take their memory from pools that keep it.
pub(crate) fn is_gpu(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    {
        let device = device.clone().inner();
        matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_))
    }
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        false
    }
}

/// The images of a split, for batches on one device.
pub(crate) struct SplitImages {
    view: View,
    device: Device,
    #[cfg(feature = "cube")]
    resident: Option<Arc<ResidentImages>>,
}

impl SplitImages {
    /// Brings the images to the device, where that is their place. Batches are tensors of `device`, with its autodiff.
    pub(crate) fn new(view: &View, device: &Device, place: ImagePlace) -> Self {
        #[cfg(not(feature = "cube"))]
        let _ = place; // It is always the host.
        Self {
            view: view.clone(),
            device: device.clone(),
            #[cfg(feature = "cube")]
            resident: (place == ImagePlace::Device)
                .then(|| resident(view, device))
                .flatten(),
        }
    }

    /// Which images.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Where batches are.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// One epoch of a plan of these images.
    pub(crate) fn epoch<'plan>(&self, plan: &'plan BatchPlan, epoch: u64) -> EpochImages<'plan> {
        assert!(
            self.view.is_same(plan.view()),
            "an epoch of the images that are here"
        );
        let epoch = plan.epoch(epoch);
        #[cfg(feature = "cube")]
        if let Some(images) = &self.resident {
            return EpochImages::Device(epoch, images.clone(), self.device.clone());
        }
        EpochImages::Host(epoch, self.device.clone())
    }
}

/// One epoch of batches.
pub(crate) enum EpochImages<'plan> {
    Host(Epoch<'plan>, Device),
    #[cfg(feature = "cube")]
    Device(Epoch<'plan>, Arc<ResidentImages>, Device),
}

impl EpochImages<'_> {
    /// The batch at `index`.
    ///
    /// # Panics
    /// When the epoch has no such batch.
    pub(crate) fn batch(&self, index: usize) -> BatchImages {
        match self {
            Self::Host(epoch, device) => epoch.batch(index).to_tensor(device).into(),
            #[cfg(feature = "cube")]
            Self::Device(epoch, images, device) => {
                let positions = &epoch.order()[epoch.range(index)];
                let picks = positions.iter().map(|position| pick(epoch, *position));
                BatchImages::Resident(ResidentBatch {
                    images: images.clone(),
                    picks: picks.collect(),
                    device: device.clone(),
                })
            }
        }
    }
}

/// None where the device has no buffer of that size.
#[cfg(feature = "cube")]
fn resident(view: &View, device: &Device) -> Option<Arc<ResidentImages>> {
    let mut bytes = Vec::with_capacity(view.len() * IMAGE_BYTES);
    (0..view.len()).for_each(|position| bytes.extend_from_slice(view.image(position)));
    ResidentImages::new(&bytes, [CHANNELS, HEIGHT, WIDTH], device).map(Arc::new)
}

/// How an epoch shows an image.
#[cfg(feature = "cube")]
fn pick(epoch: &Epoch<'_>, position: u32) -> Pick {
    let placement = epoch.placement(position);
    Pick {
        image: position,
        is_flipped: placement.flip,
        first: placement.first(),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use cifar_loader::Cifar10;
    use std::num::NonZeroUsize;

    #[test]
    #[should_panic(expected = "an epoch of the images that are here")]
    fn an_epoch_of_other_images_is_refused() {
        let view = Cifar10::sample().expect("embedded").test().first(60);
        let images = SplitImages::new(&view, &Device::flex(), ImagePlace::Host);
        let size = NonZeroUsize::new(10).expect("not zero");
        images.epoch(&BatchPlan::evaluation(view.first(50), size), 0);
    }

    #[test]
    fn processors_make_their_batches_on_the_host() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            assert_eq!(ImagePlace::of(&device), ImagePlace::Host);
        }
    }
}
