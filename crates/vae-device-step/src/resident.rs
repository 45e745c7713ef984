//! Images that stay on a device, from which a step takes its batch itself.

use std::sync::Arc;

use burn::prelude::{Device, Tensor};
use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Matrix, Queue, Storage, cubes, device_of, images_of, largest_buffer, units,
};

use crate::flat::{argument, create};
use crate::kernels::images::{LEVELS, PICK_NUMBERS, SHIFT, take_images};

/// Images on a device, a byte a value: on any of CubeCL's, also those whose kernels know no bytes.
pub struct ResidentImages {
    client: Client,
    device: Device,
    /// Four bytes each.
    words: Handle,
    words_len: usize,
    /// The value of each byte.
    levels: Handle,
    images: usize,
    shape: [usize; 3],
}

/// Which image, and where its pixels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Its position among those on the device.
    pub image: u32,
    /// Whether left and right are exchanged, before anything is shifted.
    pub is_flipped: bool,
    /// Row 0 shows that row, and column 0 that column, of the image; what is outside is black. Within -128 to 127.
    pub first: [i8; 2],
}

/// A batch's images.
#[allow(clippy::large_enum_variant)] // One a step, which is not kept.
pub enum StepImages {
    /// `[batch, channels, height, width]`, in \[0, 1\]
    Given(Tensor<4>),
    /// Some of those that lie on the device.
    Resident(Arc<ResidentImages>, Vec<Pick>),
}

impl From<Tensor<4>> for StepImages {
    fn from(images: Tensor<4>) -> Self {
        Self::Given(images)
    }
}

impl StepImages {
    /// `[batch, channels, height, width]`, in \[0, 1\]
    pub fn tensor(self) -> Tensor<4> {
        match self {
            Self::Given(images) => images,
            Self::Resident(images, picks) => images.tensor(&picks),
        }
    }

    /// Where they are.
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Given(images) => images.device(),
            Self::Resident(images, _) => images.device.clone(),
        }
    }

    /// Images, height and width.
    pub(crate) fn dims(&self) -> [usize; 3] {
        match self {
            Self::Given(images) => {
                let [batch, _, height, width] = images.dims();
                [batch, height, width]
            }
            Self::Resident(images, picks) => {
                let [_, height, width] = images.shape;
                [picks.len(), height, width]
            }
        }
    }
}

impl ResidentImages {
    /// Brings images of a shape, `[channels, height, width]`, to a device. None where it is not one of CubeCL's, or has no buffer of that size.
    ///
    /// # Panics
    /// If the bytes are not a whole number of images.
    pub fn new(bytes: &[u8], shape: [usize; 3], device: &Device) -> Option<Self> {
        let len: usize = shape.iter().product();
        assert_eq!(bytes.len() % len, 0, "a whole number of images");
        let device = device.clone().inner();
        if largest_buffer(&device)? < bytes.len().next_multiple_of(4) as u64 {
            return None;
        }
        let client = (*device_of(Tensor::<1>::zeros([1], &device))?.client).clone();
        let words = bytes.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        });
        let mut words: Vec<u32> = words.collect();
        // An empty buffer cannot be bound.
        words.resize(words.len().max(1), 0);
        let words_len = words.len();
        let levels: [f32; LEVELS] = std::array::from_fn(|byte| byte as f32 / 255.0);
        let (words, levels) = client.memory_persistent_allocation((), |()| {
            let words = client.create(Bytes::from_elems(words));
            (words, create(&client, &levels))
        });
        Some(Self {
            client,
            device,
            words,
            words_len,
            levels,
            images: bytes.len() / len,
            shape,
        })
    }

    /// Those images, as the device's operations take them.
    ///
    /// # Shapes
    /// - output: `[picks, channels, height, width]`, in \[0, 1\]
    ///
    /// # Panics
    /// If there is no such image.
    pub fn tensor(&self, picks: &[Pick]) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let queue = Queue::new(self.client.clone());
        let rows = picks.len() * height * width;
        let [pixels, same] = [(); 2].map(|()| Matrix::empty(&queue, rows, channels, Storage::F32));
        let numbers = self.client.create(Bytes::from_elems(self.numbers(picks)));
        self.take(&numbers, picks.len(), &pixels, &same);
        images_of(pixels, picks.len(), [height, width], &self.device).expect("a device of CubeCL's")
    }

    /// Room for the picks of a batch.
    pub(crate) fn picks(&self, batch: usize) -> Handle {
        let none = vec![0u32; PICK_NUMBERS * batch];
        self.client.create(Bytes::from_elems(none))
    }

    /// Picks as they lie on the device.
    ///
    /// # Panics
    /// If there is no such image.
    pub(crate) fn numbers(&self, picks: &[Pick]) -> Vec<u32> {
        let numbers = picks.iter().flat_map(|pick| {
            let Pick {
                image,
                is_flipped,
                first: [row, column],
            } = *pick;
            assert!(
                (image as usize) < self.images,
                "image {image} of {}",
                self.images
            );
            let shifted = |first: i8| (i32::from(first) + SHIFT as i32) as u32;
            [
                image,
                u32::from(is_flipped) | shifted(row) << 8 | shifted(column) << 16,
            ]
        });
        numbers.collect()
    }

    /// Writes the pixels of so many picks, in float32 and in the maps' type.
    pub(crate) fn take(&self, picks: &Handle, batch: usize, pixels: &Matrix, input: &Matrix) {
        let [channels, height, width] = self.shape;
        let count = batch * channels * height * width;
        assert_eq!([pixels.len(), input.len()], [count; 2], "a batch's values");
        // SAFETY: one unit a value of both; picks name images that there are.
        unsafe {
            take_images::launch_unchecked(
                &self.client,
                cubes(count),
                units(),
                argument(&self.words, self.words_len),
                argument(&self.levels, LEVELS),
                argument(picks, PICK_NUMBERS * batch),
                pixels.argument(),
                input.argument(),
                count,
                channels,
                height,
                width,
                input.storage.elem(),
            );
        }
    }
}
