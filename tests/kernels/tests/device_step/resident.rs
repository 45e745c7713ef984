//! Batches that a step takes from images on the device.

use std::sync::Arc;

use burn::prelude::*;
use vae_core::{Depth, Sampler};
use vae_device_step::{DeviceStep, Pick, ResidentImages, StepImages, StepInputs, Weights};

use crate::{batch, bits, config, float32, model, options, rates, step, vulkan};

const IMAGES: usize = 11;
const SIZE: [usize; 3] = [3, 32, 32];
const LEN: usize = 3 * 32 * 32;

/// Every byte there is, somewhere.
fn bytes() -> Vec<u8> {
    (0..IMAGES * LEN)
        .map(|index| (index * 167 + index / LEN * 13) as u8)
        .collect()
}

/// Different ones in every step: some flipped, some shifted, some out of sight but for a corner.
fn picks(len: usize, number: usize) -> Vec<Pick> {
    (0..len)
        .map(|index| {
            let at = index + 5 * number;
            let first = [(at % 9) as i8 - 4, (at * 5 % 9) as i8 - 4];
            Pick {
                image: (at * 7 % IMAGES) as u32,
                is_flipped: at % 3 == 1,
                first: if at % 7 == 6 { [-31, 30] } else { first },
            }
        })
        .collect()
}

/// On the host, pixel by pixel.
fn expected(picks: &[Pick]) -> Vec<f32> {
    let bytes = bytes();
    let mut values = Vec::new();
    for pick in picks {
        for index in 0..LEN {
            let (channel, row, column) = (index / 1024, index / 32 % 32, index % 32);
            let row = row as i32 + i32::from(pick.first[0]);
            let column = column as i32 + i32::from(pick.first[1]);
            let is_inside = (0..32).contains(&row) && (0..32).contains(&column);
            let column = if pick.is_flipped { 31 - column } else { column };
            let at = |row: i32, column: i32| {
                bytes[pick.image as usize * LEN + channel * 1024 + (row * 32 + column) as usize]
            };
            values.push(if is_inside {
                f32::from(at(row, column)) / 255.0
            } else {
                0.0
            });
        }
    }
    values
}

fn resident() -> Arc<ResidentImages> {
    let images = ResidentImages::new(&bytes(), SIZE, &vulkan());
    Arc::new(images.expect("a buffer for eleven images"))
}

/// The pixels of a batch that Burn's tensors bring.
fn given(picks: &[Pick]) -> StepImages {
    let data = TensorData::new(expected(picks), [picks.len(), 3, 32, 32]);
    Tensor::<4>::from_data(data, &vulkan()).into()
}

#[test]
fn images_have_the_bits_of_the_hosts_division() {
    let picks = picks(20, 0);
    let found = resident().tensor(&picks);
    assert_eq!(found.dims(), [20, 3, 32, 32]);
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert!(bits(float32(found.into_data())) == bits(expected(&picks)));
}

#[test]
#[should_panic(expected = "image 11 of 11")]
fn an_image_that_is_not_there_is_refused() {
    let pick = Pick {
        image: IMAGES as u32,
        is_flipped: false,
        first: [0, 0],
    };
    resident().tensor(&[pick]);
}

/// Whether launched or replayed, in a step, in a shard's pass or in an evaluation: each takes the images that it was told to.
#[test]
fn a_step_takes_its_own_images() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let run = |is_captured: bool, images: &dyn Fn(&[Pick]) -> StepImages| {
        let options = options(Sampler::Correct, is_captured);
        let mut engine = DeviceStep::new(&start, options).expect("known kernels");
        let mut found = Vec::new();
        for number in 0..5 {
            let inputs = |len, salt| StepInputs {
                images: images(&picks(len, number + salt)),
                ..batch(&config, len, number, &vulkan())
            };
            found.push(step(&mut engine, inputs(3, 0), rates(1.0)).cross_entropy);
            let StepInputs { images, noise, .. } = inputs(if number == 3 { 2 } else { 4 }, 9);
            let pending = engine.evaluate(images, noise, Weights::Trained, 4);
            let terms = pending.expect("a device that works").wait();
            found.push(terms.expect("a device that works").cross_entropy);
            let pass = engine.pass(inputs(2, 17), 1.0, rates(1.0));
            found.push(pass.expect("a pass").terms.cross_entropy);
        }
        assert_eq!(engine.is_captured(), is_captured);
        (found, bits(&engine, &config))
    };
    let expected = run(false, &given);
    let images = resident();
    let of_resident = |picks: &[Pick]| StepImages::Resident(images.clone(), picks.to_vec());
    for is_captured in [false, true] {
        assert!(run(is_captured, &of_resident) == expected, "{is_captured}");
    }
    let (terms, _) = expected;
    let all_differ = (1..terms.len()).all(|index| !terms[..index].contains(&terms[index]));
    assert!(all_differ, "{terms:?}");
}
