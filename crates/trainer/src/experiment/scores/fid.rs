//! The Fréchet Inception distance of drawn images, and of reconstructions, from a split's.

use std::num::NonZeroUsize;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use inception_features::{FEATURES, Inception, LARGEST_MAP};
use run_report::image_sheet::{CHANNELS, SIDE, VALUES, to_byte};
use vae_measures::{FeatureMoments, frechet_distance};

use crate::experiment::in_parts::{at_a_time, largest_buffer};
use crate::experiment::model::Model;
use crate::experiment::samples::pictures::LatentDraw;
use crate::experiment::samples::prior_samples::PriorSamples;

/// Images that a FID needs at least: with fewer, the covariance of 2048 features has directions without any image.
pub const FEWEST_IMAGES: usize = FEATURES;

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct FidOptions<'a> {
    /// Images drawn, and at most as many of the split.
    pub images: NonZeroUsize,
    /// Images at a time in the Inception network.
    pub batch_size: NonZeroUsize,
    /// What images are drawn from.
    pub draw: LatentDraw<'a>,
    /// Whether the split's images are reconstructed and compared too.
    pub has_reconstructions: bool,
}

/// Distances of a model's images from a split's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fid {
    /// Of the drawn images.
    pub drawn: f64,
    /// Of the split's images after encoder and decoder, through the posterior's mean.
    pub reconstructed: Option<f64>,
    /// Images drawn.
    pub num_drawn: usize,
    /// Images of the split.
    pub num_real: usize,
}

impl Fid {
    /// Whether all distances that were asked for are numbers.
    pub fn is_finite(&self) -> bool {
        let distances = [Some(self.drawn), self.reconstructed];
        distances.iter().flatten().all(|it| it.is_finite())
    }
}

/// Computes the distances; `each_batch` hears how many images have gone through the Inception network.
///
/// Images are rounded to 8 bits, as files hold them. Memory does not grow with the number of images.
///
/// # Panics
/// If the split has fewer than two images, or fewer than two are drawn.
pub fn fid(
    model: &Model,
    inception: &Inception,
    real: &View,
    options: FidOptions<'_>,
    device: &Device,
    mut each_batch: impl FnMut(usize),
) -> Fid {
    let device = device.clone().inner();
    let real = real.first(options.images.get());
    let in_network = at_a_time(options.batch_size, LARGEST_MAP, largest_buffer(&device));
    let mut done = 0;
    let mut moments_of = |images: &mut dyn Iterator<Item = Vec<u8>>| {
        let mut moments = FeatureMoments::new(FEATURES);
        in_batches(images, in_network, |bytes| {
            for row in features(inception, bytes).chunks(FEATURES) {
                moments.add(row);
            }
            done += bytes.len() / VALUES;
            each_batch(done);
        });
        moments
    };
    let plan = BatchPlan::evaluation(real.clone(), options.batch_size);
    let batches = || (0..plan.num_batches()).map(|index| plan.batch(0, index).to_tensor(&device));
    let of_real = moments_of(&mut batches().map(bytes));
    let samples = PriorSamples::new(model, options.images.get(), options.draw, &device);
    let of_drawn = moments_of(&mut samples.map(|images| to_bytes(&images)));
    let reconstructed = options.has_reconstructions.then(|| {
        let of_reconstructions =
            moments_of(&mut batches().map(|images| bytes(model.reconstruct(images))));
        frechet_distance(&of_reconstructions, &of_real)
    });
    Fid {
        drawn: frechet_distance(&of_drawn, &of_real),
        reconstructed,
        num_drawn: options.images.get(),
        num_real: real.len(),
    }
}

/// Hands the images over in batches of this size, whatever portions they come in; the last batch has what is left.
fn in_batches(
    portions: &mut dyn Iterator<Item = Vec<u8>>,
    batch_size: NonZeroUsize,
    mut take: impl FnMut(&[u8]),
) {
    let whole = batch_size.get() * VALUES;
    let mut waiting: Vec<u8> = Vec::new();
    for images in portions {
        waiting.extend(images);
        let full = waiting.len() / whole * whole;
        waiting
            .drain(..full)
            .as_slice()
            .chunks(whole)
            .for_each(&mut take);
    }
    if !waiting.is_empty() {
        take(&waiting);
    }
}

/// `[batch, 2048]` of images of bytes.
fn features(inception: &Inception, images: &[u8]) -> Vec<f32> {
    let values: Vec<f32> = images
        .iter()
        .map(|level| f32::from(*level) / 255.0)
        .collect();
    let shape = [images.len() / VALUES, CHANNELS, SIDE, SIDE];
    let images = Tensor::<4>::from_data(TensorData::new(values, shape), inception.device());
    floats(inception.features(images).into_data())
}

fn bytes(images: Tensor<4>) -> Vec<u8> {
    to_bytes(&floats(images.into_data()))
}

fn to_bytes(images: &[f32]) -> Vec<u8> {
    images.iter().map(|value| to_byte(*value)).collect()
}

fn floats(data: TensorData) -> Vec<f32> {
    data.convert_dtype(DType::F32)
        .try_to_vec()
        .expect("converted to float32 just now")
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn every_image_comes_once_and_in_order_whatever_the_portions() {
        for (portions, batch_size, expected) in [
            (
                &[100, 100, 30][..],
                25,
                &[25, 25, 25, 25, 25, 25, 25, 25, 25, 5][..],
            ),
            (&[7, 7, 7], 10, &[10, 10, 1]),
            (&[3], 10, &[3]),
            (&[], 10, &[]),
        ] {
            let mut number = 0;
            let mut images = portions.iter().map(|count| {
                let portion = (number..number + count).flat_map(|image| [image as u8; VALUES]);
                number += count;
                portion.collect::<Vec<u8>>()
            });
            let (mut sizes, mut seen) = (Vec::new(), Vec::new());
            let batch_size = NonZeroUsize::new(batch_size).expect("not zero");
            in_batches(&mut images, batch_size, |bytes| {
                sizes.push(bytes.len() / VALUES);
                seen.extend(bytes.chunks(VALUES).map(|image| image[0]));
            });
            let total: usize = portions.iter().sum();
            assert_eq!(
                seen,
                (0..total).map(|image| image as u8).collect::<Vec<u8>>()
            );
            assert_eq!(sizes, expected);
        }
    }

    #[test]
    fn both_distances_have_to_be_finite() {
        let of = |drawn, reconstructed| {
            let found = Fid {
                drawn,
                reconstructed,
                num_drawn: 2048,
                num_real: 2048,
            };
            found.is_finite()
        };
        assert!(of(1.0, None) && of(1.0, Some(2.0)));
        assert!(!of(f64::NAN, Some(2.0)) && !of(1.0, Some(f64::NAN)));
        assert!(!of(1.0, Some(f64::INFINITY)) && !of(f64::INFINITY, None));
    }

    #[test]
    fn images_of_bytes_stay_those_bytes() {
        let view = cifar_loader::Cifar10::sample().expect("embedded").test();
        let batch = view.batch(&[0, 7]).to_tensor(&Device::flex());
        let kept: Vec<f32> = bytes(batch.clone())
            .iter()
            .map(|level| f32::from(*level) / 255.0)
            .collect();
        assert_eq!(kept, floats(batch.into_data()));
    }
}
