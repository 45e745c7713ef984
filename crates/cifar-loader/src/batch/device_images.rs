//! A view's images on a device, as bytes, and batches made there.
//!
//! The draws are the host's: an epoch's order, flips and window positions are worked out by [`Epoch`] and uploaded once.
//! A batch then needs nothing from the host, and has the bits of [`ImageBatch::to_tensor`](crate::ImageBatch::to_tensor)
//! wherever the device divides as IEEE 754 says.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::augment::{Augment, PADDING};
use crate::batch::{BatchPlan, Epoch};
use crate::image_format::{CHANNELS, HEIGHT, IMAGE_BYTES, WIDTH};
use crate::split::View;

/// All images of a view on a device, one byte a value: 3,072 bytes an image.
#[derive(Clone, Debug)]
pub struct DeviceImages {
    view: View,
    /// `[images, 3, 32, 32]`, unsigned bytes.
    bytes: Tensor<4, Int>,
    device: Device,
}

impl DeviceImages {
    /// Uploads the images of `view`. Batches will be tensors of `device`, with its autodiff where it has one.
    ///
    /// # Panics
    /// Where the device has no unsigned bytes; flex, ndarray and CUDA have.
    pub fn new(view: &View, device: &Device) -> Self {
        let mut bytes = Vec::with_capacity(view.len() * IMAGE_BYTES);
        (0..view.len()).for_each(|position| bytes.extend_from_slice(view.image(position)));
        let shape = [view.len(), CHANNELS, HEIGHT, WIDTH];
        Self {
            view: view.clone(),
            bytes: Tensor::from_data(TensorData::new(bytes, shape), (device, DType::U8)),
            device: device.clone(),
        }
    }

    /// The images that are on the device.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// An epoch whose order and draws are on the device: 4 bytes an image, 16 with flips and crops.
    ///
    /// # Panics
    /// When the epoch's plan is one of other images.
    pub fn epoch(&self, epoch: &Epoch<'_>) -> DeviceEpoch {
        let plan: &BatchPlan = epoch.plan();
        assert!(
            self.view.is_same(plan.view()),
            "an epoch of the images on the device"
        );
        let upload = |values: Vec<i32>| {
            let shape = [values.len()];
            Tensor::<1, Int>::from_data(TensorData::new(values, shape), &self.device)
        };
        // 2^31 images would be 6 TiB.
        let order = epoch.order();
        let positions = order.iter().map(|position| *position as i32).collect();
        let placements: Vec<_> = match plan.augment() {
            Augment::None => Vec::new(),
            Augment::Flip | Augment::FlipCrop => order
                .iter()
                .map(|position| epoch.placement(*position))
                .collect(),
        };
        let draws = |draw: fn(&crate::augment::Placement) -> i32| {
            let draws = placements.iter().map(draw);
            upload(draws.collect())
        };
        DeviceEpoch {
            bytes: self.bytes.clone(),
            device: self.device.clone(),
            ranges: (0..epoch.num_batches())
                .map(|index| epoch.range(index))
                .collect(),
            order: upload(positions),
            flips: (plan.augment() != Augment::None).then(|| draws(|draw| i32::from(draw.flip))),
            windows: (plan.augment() == Augment::FlipCrop).then(|| {
                [
                    draws(|draw| draw.top as i32),
                    draws(|draw| draw.left as i32),
                ]
            }),
        }
    }
}

/// One epoch of the images on a device.
#[derive(Clone, Debug)]
pub struct DeviceEpoch {
    bytes: Tensor<4, Int>,
    device: Device,
    /// Each batch's range of the tensors below.
    ranges: Vec<Range<usize>>,
    /// `[images]` positions.
    order: Tensor<1, Int>,
    /// `[images]`, 1 where left and right are exchanged.
    flips: Option<Tensor<1, Int>>,
    /// `[images]` first rows and first columns, as in [`Placement`](crate::Placement).
    windows: Option<[Tensor<1, Int>; 2]>,
}

impl DeviceEpoch {
    /// Batches in the epoch.
    pub fn num_batches(&self) -> usize {
        self.ranges.len()
    }

    /// The batch at `index`, in \[0, 1\].
    ///
    /// # Shapes
    /// - output: `[batch, 3, 32, 32]`
    ///
    /// # Panics
    /// When `index` is not below [`num_batches`](Self::num_batches).
    pub fn batch(&self, index: usize) -> Tensor<4> {
        let of_batch = self.of_batch(index);
        let mut bytes = self.bytes.clone().select(0, of_batch(&self.order));
        let batch = bytes.dims();
        let mut is_inside = None;
        if let Some(flips) = &self.flips {
            let windows = self.windows.as_ref();
            let columns = Pixels::new(WIDTH, windows.map(|[_, left]| of_batch(left)), &self.device);
            let from = mirrored(columns.from, of_batch(flips));
            let [images, _] = from.dims();
            // From [batch or 1, 32] to [batch, 3, 32, 32].
            let from = from.reshape([images, 1, 1, WIDTH]).expand(batch);
            bytes = bytes.gather(3, from);
            is_inside = columns
                .is_inside
                .map(|columns| columns.reshape([images, 1, 1, WIDTH]));
        }
        if let Some([top, _]) = &self.windows {
            let rows = Pixels::new(HEIGHT, Some(of_batch(top)), &self.device);
            let column = [batch[0], 1, HEIGHT, 1];
            bytes = bytes.gather(2, rows.from.reshape(column).expand(batch));
            is_inside = is_inside
                .zip(rows.is_inside)
                .map(|(columns, rows)| columns * rows.reshape(column));
        }
        let values = bytes.float().div_scalar(255.0);
        match is_inside {
            // Times one or zero: the bits stay, and black is +0.
            Some(is_inside) => values * is_inside.float(),
            None => values,
        }
    }

    /// Takes the batch's range of a tensor of the epoch.
    fn of_batch(&self, index: usize) -> impl Fn(&Tensor<1, Int>) -> Tensor<1, Int> + use<> {
        let num_batches = self.num_batches();
        assert!(
            index < num_batches,
            "batch {index} of an epoch of {num_batches} batches"
        );
        let range = self.ranges[index].clone();
        move |whole| whole.clone().narrow(0, range.start, range.len())
    }
}

/// Which rows or columns of each image a batch's rows or columns come from.
struct Pixels {
    /// `[batch or 1, size]`; within the image everywhere.
    from: Tensor<2, Int>,
    /// `[batch, size]`, 0 where the padding is seen; none where it never is.
    is_inside: Option<Tensor<2, Int>>,
}

impl Pixels {
    fn new(size: usize, starts: Option<Tensor<1, Int>>, device: &Device) -> Self {
        let last = size as i64 - 1;
        let positions = Tensor::<1, Int>::arange(0..size as i64, device).reshape([1, size]);
        let Some(starts) = starts else {
            return Self {
                from: positions,
                is_inside: None,
            };
        };
        let [images] = starts.dims();
        let from = positions + starts.reshape([images, 1]) - PADDING as i64;
        let clamped = from.clone().clamp(0, last);
        let is_inside = clamped.clone().equal(from).int();
        Self {
            from: clamped,
            is_inside: Some(is_inside),
        }
    }
}

/// Columns counted from the other side, where `flips` is 1.
///
/// # Shapes
/// - columns: `[batch or 1, 32]`
/// - flips: `[batch]`
/// - output: `[batch, 32]`
fn mirrored(columns: Tensor<2, Int>, flips: Tensor<1, Int>) -> Tensor<2, Int> {
    let [images] = flips.dims();
    let last = WIDTH as i64 - 1;
    let to_the_other_side = columns.clone() * -2 + last;
    columns + to_the_other_side * flips.reshape([images, 1])
}
