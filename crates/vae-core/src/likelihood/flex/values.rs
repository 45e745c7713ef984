//! The one pass over a batch: each image by a thread, each image in rows of positions.

use burn::backend::TensorMetadata;
use burn::prelude::*;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::lanes::{LANES, Pixels, Strides, gather, scatter};
use super::one_pass::OnePass;
use super::real::Real;

/// Whether a map lies in memory with its channels fastest.
fn is_channels_last(map: &FlexTensor) -> bool {
    map.permute(&[0, 2, 3, 1]).is_contiguous()
}

/// Values of each image and, where `WITH_GRADIENT`, their gradients in the map's own order; else an empty tensor.
pub(super) fn run<T: Real, const WITH_GRADIENT: bool>(
    map: FlexTensor,
    images: FlexTensor,
    likelihood: OnePass,
) -> (FlexTensor, FlexTensor) {
    let shape = map.shape();
    let [batch, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    let colours = images.shape()[1];
    assert_eq!(
        channels,
        likelihood.map_channels(colours),
        "channels of the map of {colours} colours"
    );
    assert!(
        colours == 3 || !matches!(likelihood, OnePass::LogisticMixture { .. }),
        "a mixture is of three colours, not {colours}"
    );
    assert_eq!(
        images.shape().as_slice(),
        [batch, colours, height, width],
        "shape of the images"
    );
    let positions = height * width;
    let is_last = is_channels_last(&map);
    let strides = if is_last {
        Strides {
            channel: 1,
            position: channels,
        }
    } else {
        Strides {
            channel: positions,
            position: 1,
        }
    };
    // A slice of a batch is a view that shares the whole one's memory.
    let map = if is_last {
        map.permute(&[0, 2, 3, 1]).to_contiguous()
    } else {
        map.to_contiguous()
    };
    let images = images.to_contiguous();
    let (values, pixels) = (map.storage::<T>(), images.storage::<T>());
    let size = channels * positions;
    let mut gradient = vec![T::ZERO; if WITH_GRADIENT { values.len() } else { 0 }];

    let each = values
        .par_chunks(size)
        .zip(pixels.par_chunks(colours * positions));
    let nll: Vec<T> = if WITH_GRADIENT {
        let each = each.zip(gradient.par_chunks_mut(size));
        each.map(|((values, pixels), gradient)| {
            image::<T, true>(values, pixels, gradient, strides, colours, likelihood)
        })
        .collect()
    } else {
        each.map(|(values, pixels)| {
            image::<T, false>(values, pixels, &mut [], strides, colours, likelihood)
        })
        .collect()
    };
    let gradient = if is_last && WITH_GRADIENT {
        dense(gradient, &[batch, height, width, channels]).permute(&[0, 3, 1, 2])
    } else if WITH_GRADIENT {
        dense(gradient, &[batch, channels, height, width])
    } else {
        dense(gradient, &[0])
    };
    (dense(nll, &[batch]), gradient)
}

fn dense<T: Real>(values: Vec<T>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// One image's value; its gradient goes to `gradient`, in the order of `values`.
fn image<T: Real, const WITH_GRADIENT: bool>(
    values: &[T],
    pixels: &[T],
    gradient: &mut [T],
    strides: Strides,
    colours: usize,
    likelihood: OnePass,
) -> T {
    let positions = pixels.len() / colours;
    let mut rows = vec![[T::ZERO; LANES]; values.len() / positions];
    let mut known = Pixels::new(colours);
    let mut total = 0.0;
    for start in (0..positions).step_by(LANES) {
        // At an image's end some lanes keep what they had.
        let lanes = LANES.min(positions - start);
        gather(values, &mut rows, start, lanes, strides);
        for colour in 0..colours {
            for lane in 0..lanes {
                known.set(colour, lane, pixels[colour * positions + start + lane]);
            }
        }
        let nll = likelihood.nll::<T, WITH_GRADIENT>(&mut rows, &known);
        total += nll[..lanes].iter().map(|value| value.wide()).sum::<f64>();
        if WITH_GRADIENT {
            scatter(&rows, gradient, start, lanes, strides);
        }
    }
    T::from_f64(total)
}

/// A gradient with each image's share multiplied by that image's factor, in its own order.
pub(super) fn scale_images<T: Real>(gradient: FlexTensor, factors: FlexTensor) -> FlexTensor {
    let factors = factors.to_contiguous();
    let factors = factors.storage::<T>();
    let is_last = is_channels_last(&gradient);
    let mut gradient = if is_last {
        let permuted = gradient.permute(&[0, 2, 3, 1]);
        drop(gradient);
        permuted
    } else {
        gradient.to_contiguous()
    };
    let size = gradient.shape().num_elements() / factors.len().max(1);
    let each = gradient
        .storage_mut::<T>()
        .par_chunks_mut(size.max(1))
        .zip(factors);
    each.for_each(|(values, factor)| {
        values
            .iter_mut()
            .for_each(|value| *value = *value * *factor);
    });
    if is_last {
        gradient.permute(&[0, 3, 1, 2])
    } else {
        gradient
    }
}
