//! Batches that a device makes of its images, against those of the host.
#![cfg(feature = "burn")]

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor};
use cifar_loader::{Augment, BatchPlan, Cifar10, DeviceImages, SplitOptions, View};

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
        let resident = DeviceImages::new(&view, &device);
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
                let host = plan.epoch(epoch);
                let resident = resident.epoch(&host);
                for index in 0..plan.num_batches() {
                    let expected = host.batch(index).to_tensor(&device);
                    let found = resident.batch(index);
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
