//! The Fréchet Inception distance of drawn images, and of reconstructions, from a split's.

use std::num::NonZeroUsize;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use inception_features::{FEATURES, Inception};
use run_report::image_sheet::{CHANNELS, SIDE, VALUES, to_byte};
use vae_core::Vae;
use vae_measures::{FeatureMoments, frechet_distance};

use crate::experiment::pictures::LatentDraw;
use crate::experiment::prior_samples::PriorSamples;

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

/// Computes the distances; `each_batch` hears how many images have gone through the Inception network.
///
/// Images are rounded to 8 bits, as files hold them. Memory does not grow with the number of images.
///
/// # Panics
/// If the split has fewer than two images, or fewer than two are drawn.
pub fn fid(
    model: &Vae,
    inception: &Inception,
    real: &View,
    options: FidOptions<'_>,
    device: &Device,
    mut each_batch: impl FnMut(usize),
) -> Fid {
    let device = device.clone().inner();
    let real = real.first(options.images.get());
    let mut done = 0;
    let mut moments_of = |images: &mut dyn Iterator<Item = Vec<u8>>| {
        let mut moments = FeatureMoments::new(FEATURES);
        let mut waiting: Vec<u8> = Vec::new();
        let mut take = |bytes: &[u8]| {
            for row in features(inception, bytes).chunks(FEATURES) {
                moments.add(row);
            }
            done += bytes.len() / VALUES;
            each_batch(done);
        };
        let whole = options.batch_size.get() * VALUES;
        for images in images {
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
