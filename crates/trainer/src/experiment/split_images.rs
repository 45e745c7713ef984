//! Where batches are made: on the host, or on a device that holds the split.
//!
//! A processor's device is the host; on a GPU a split lies as bytes, and a step copies nothing there but its noise. The
//! batches are the same.

#[cfg(feature = "cube")]
use std::sync::Arc;

use burn::prelude::*;
use cifar_loader::{BatchPlan, DeviceEpoch, DeviceImages, Epoch, View};
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
    resident: Option<Resident>,
}

/// Images on a device.
enum Resident {
    /// Of which its own step takes a batch.
    #[cfg(feature = "cube")]
    Picked(Arc<ResidentImages>),
    /// Of which Burn's operations make one, on every backend.
    Bytes(Box<DeviceImages>),
}

impl Resident {
    /// None where a GPU has no buffer of that size.
    fn new(view: &View, device: &Device) -> Option<Self> {
        #[cfg(feature = "cube")]
        if is_gpu(device) {
            let mut bytes = Vec::with_capacity(view.len() * IMAGE_BYTES);
            (0..view.len()).for_each(|position| bytes.extend_from_slice(view.image(position)));
            let images = ResidentImages::new(&bytes, [CHANNELS, HEIGHT, WIDTH], device)?;
            return Some(Self::Picked(Arc::new(images)));
        }
        Some(Self::Bytes(Box::new(DeviceImages::new(view, device))))
    }
}

impl SplitImages {
    /// Brings the images to the device, where that is their place. Batches are tensors of `device`, with its autodiff.
    pub(crate) fn new(view: &View, device: &Device, place: ImagePlace) -> Self {
        Self {
            view: view.clone(),
            device: device.clone(),
            resident: (place == ImagePlace::Device)
                .then(|| Resident::new(view, device))
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
        match &self.resident {
            #[cfg(feature = "cube")]
            Some(Resident::Picked(images)) => {
                EpochImages::Picked(epoch, images.clone(), self.device.clone())
            }
            Some(Resident::Bytes(images)) => EpochImages::Device(Box::new(images.epoch(&epoch))),
            None => EpochImages::Host(epoch, self.device.clone()),
        }
    }
}

/// One epoch of batches.
pub(crate) enum EpochImages<'plan> {
    Host(Epoch<'plan>, Device),
    Device(Box<DeviceEpoch>),
    #[cfg(feature = "cube")]
    Picked(Epoch<'plan>, Arc<ResidentImages>, Device),
}

impl EpochImages<'_> {
    /// The batch at `index`.
    ///
    /// # Panics
    /// When the epoch has no such batch.
    pub(crate) fn batch(&self, index: usize) -> BatchImages {
        match self {
            Self::Host(epoch, device) => epoch.batch(index).to_tensor(device).into(),
            Self::Device(epoch) => epoch.batch(index).into(),
            #[cfg(feature = "cube")]
            Self::Picked(epoch, images, device) => {
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
    use cifar_loader::{Augment, Cifar10, SplitOptions};
    use std::num::NonZeroUsize;

    fn size(batch_size: usize) -> NonZeroUsize {
        NonZeroUsize::new(batch_size).expect("not zero")
    }

    /// A split whose positions are not the indices of its records.
    fn view() -> View {
        let splits = Cifar10::sample().expect("embedded");
        let splits = splits.split(&SplitOptions {
            seed: 3,
            limit_train: Some(103),
            ..SplitOptions::default()
        });
        splits.expect("three splits").train
    }

    fn bits(batch: Tensor<4>) -> Vec<u32> {
        let values = batch.into_data().try_to_vec::<f32>().expect("float32");
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn batches_of_the_device_have_the_bits_of_the_hosts() {
        let view = view();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let host = SplitImages::new(&view, &device, ImagePlace::Host);
            let resident = SplitImages::new(&view, &device, ImagePlace::Device);
            let training = |augment| BatchPlan::training(view.clone(), size(25), 7, augment);
            for plan in [
                training(Augment::None),
                training(Augment::Flip),
                training(Augment::FlipCrop),
                // Five batches, the last of three images.
                training(Augment::FlipCrop).keep_last(),
                BatchPlan::evaluation(view.clone(), size(100)),
                // One batch of all.
                BatchPlan::training(view.clone(), size(500), 7, Augment::Flip),
            ] {
                for epoch in [0, 5] {
                    let (host, resident) = (host.epoch(&plan, epoch), resident.epoch(&plan, epoch));
                    for index in 0..plan.num_batches() {
                        let [expected, found] =
                            [&host, &resident].map(|epoch| epoch.batch(index).tensor());
                        assert_eq!(found.dims(), expected.dims());
                        assert_eq!(found.device().is_autodiff(), device.is_autodiff());
                        let case = format!("{:?}, epoch {epoch}, batch {index}", plan.augment());
                        assert!(bits(found) == bits(expected), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_pixel_comes_from_where_the_draw_says() {
        let view = view();
        let plan = BatchPlan::training(view.clone(), size(40), 11, Augment::FlipCrop).keep_last();
        let epoch = plan.epoch(2);
        let resident = DeviceImages::new(&view, &Device::flex()).epoch(&epoch);
        let mut windows = std::collections::BTreeSet::new();
        for index in 0..plan.num_batches() {
            let positions = &epoch.order()[epoch.range(index)];
            let found = resident.batch(index).into_data();
            let found = found.try_to_vec::<f32>().expect("float32");
            assert_eq!(found.len(), positions.len() * 3 * 32 * 32);
            for (image, position) in positions.iter().enumerate() {
                let draw = epoch.placement(*position);
                windows.insert((draw.flip, draw.top, draw.left));
                let bytes = view.image(*position as usize);
                for (channel, row, column) in
                    (0..3 * 32 * 32).map(|at| (at / 1024, at / 32 % 32, at % 32))
                {
                    let (from_row, from_column) = (row + draw.top, column + draw.left);
                    let is_black = [from_row, from_column]
                        .iter()
                        .any(|from| *from < 4 || *from >= 36);
                    let expected = if is_black {
                        0.0
                    } else {
                        let from_column = from_column - 4;
                        let from_column = if draw.flip {
                            31 - from_column
                        } else {
                            from_column
                        };
                        f32::from(bytes[channel * 1024 + (from_row - 4) * 32 + from_column]) / 255.0
                    };
                    let value = found[image * 3072 + channel * 1024 + row * 32 + column];
                    assert_eq!(value.to_bits(), expected.to_bits(), "{draw:?}");
                }
            }
        }
        assert!(windows.len() > 60, "{} different draws", windows.len());
    }

    #[test]
    #[should_panic(expected = "an epoch of the images on the device")]
    fn an_epoch_of_other_images_is_refused() {
        let view = view();
        let images = DeviceImages::new(&view, &Device::flex());
        let plan = BatchPlan::evaluation(view.first(50), size(10));
        images.epoch(&plan.epoch(0));
    }

    #[test]
    fn processors_make_their_batches_on_the_host() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            assert_eq!(ImagePlace::of(&device), ImagePlace::Host);
        }
    }
}
