//! How drawn images differ from real ones, by measures that need no Inception network.

use std::num::NonZeroUsize;

use burn::prelude::*;
use cifar_loader::{BatchPlan, IMAGE_BYTES, View};
use vae_measures::{ColourHistogram, RadialSpectrum, nearest_distance};

use crate::experiment::model::Model;
use crate::experiment::prior::LatentPrior;
use crate::experiment::random::{Purpose, Stream};

/// Height and width of an image, and values of one of its channels.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// The first cycle an image that counts as a fine detail.
const FINE_FROM: usize = 9;

/// What is drawn, and how much is compared.
#[derive(Clone, Copy, Debug)]
pub struct StatisticsOptions<'a> {
    /// Images drawn, and at most as many real ones and training images whose colours are compared.
    pub images: NonZeroUsize,
    /// Drawn and real images whose nearest training image is looked for.
    pub neighbours: usize,
    /// Images at a time.
    pub batch_size: NonZeroUsize,
    /// What latents are drawn from.
    pub prior: &'a LatentPrior,
    /// Multiplies their noise.
    pub temperature: f64,
    /// Of the draws.
    pub seed: u64,
}

/// How drawn images differ from a real split's.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleStatistics {
    /// Images drawn.
    pub drawn: usize,
    /// Real images compared with.
    pub real: usize,
    /// Power of the drawn images over that of the real ones at 1, 2, .. 16 cycles an image; below 1 means blurred.
    pub power_ratio: Vec<f64>,
    /// Share of pixels that would have to change colour, drawn against real images.
    pub colour_distance: f64,
    /// The same, as many training images as are drawn, evenly spread, against real images: what is left between two such sets.
    pub colour_distance_of_training: f64,
    /// Median distance of drawn images to their nearest training image, values in \[0, 1\].
    pub nearest_training: f64,
    /// The same of real images: drawn ones that are much nearer are copies.
    pub nearest_training_of_real: f64,
}

impl SampleStatistics {
    /// Geometric mean of the power ratios from 9 cycles an image on: how much of the fine detail there is.
    pub fn fine_detail(&self) -> f64 {
        let fine = &self.power_ratio[FINE_FROM - 1..];
        (fine.iter().map(|ratio| ratio.ln()).sum::<f64>() / fine.len() as f64).exp()
    }
}

/// Draws images and compares them with those of `real`, and both with the training images.
///
/// # Panics
/// If a split is empty.
pub fn sample_statistics(
    model: &Model,
    real: &View,
    training: &View,
    options: StatisticsOptions<'_>,
    device: &Device,
) -> SampleStatistics {
    let device = device.clone().inner();
    let count = options.images.get();
    let real = real.first(count);
    let mut of_drawn = Collected::new(options.neighbours);
    let latent_dim = model.latent_dim();
    let mut done = 0;
    while done < count {
        let batch = options.batch_size.get().min(count - done);
        // One stream an image, so that the division into batches changes nothing.
        let latents: Vec<f32> = (done..done + batch)
            .flat_map(|image| {
                let mut stream = Stream::new(options.seed, Purpose::PixelNoise, image as u64);
                options
                    .prior
                    .draw(&mut stream, 1, latent_dim, options.temperature)
            })
            .collect();
        let latents = TensorData::new(latents, [batch, latent_dim]);
        let images = model.generate(Tensor::<2>::from_data(latents, &device));
        of_drawn.add(images);
        done += batch;
    }
    let collect = |view: &View, mut collected: Collected| {
        let plan = BatchPlan::evaluation(view.clone(), options.batch_size);
        for index in 0..plan.num_batches() {
            collected.add(plan.batch(0, index).to_tensor(&device));
        }
        collected
    };
    let of_real = collect(&real, Collected::new(options.neighbours));
    let of_training = collect(training, Collected::whole(training.len()));
    let median = |collected: &Collected| {
        let mut distances: Vec<f64> = collected
            .kept
            .chunks(IMAGE_BYTES)
            .filter_map(|image| nearest_distance(image, &of_training.kept))
            .map(|(_, distance)| distance)
            .collect();
        distances.sort_by(f64::total_cmp);
        distances
            .get(distances.len() / 2)
            .copied()
            .unwrap_or(f64::NAN)
    };
    SampleStatistics {
        drawn: count,
        real: real.len(),
        power_ratio: match (&of_drawn.spectrum, &of_real.spectrum) {
            (Some(drawn), Some(real)) => drawn.ratio(real),
            _ => Vec::new(),
        },
        colour_distance: of_drawn.colours.distance(&of_real.colours),
        colour_distance_of_training: colours_of(&of_training.kept, count)
            .distance(&of_real.colours),
        nearest_training: median(&of_drawn),
        nearest_training_of_real: median(&of_real),
    }
}

/// Colours of `count` of these images, or of all where there are fewer, evenly spread: a smaller set is farther from any other by chance
/// alone, so sets of one size are compared.
fn colours_of(images: &[f32], count: usize) -> ColourHistogram {
    let all = images.len() / IMAGE_BYTES;
    let taken = count.min(all);
    let mut colours = ColourHistogram::new();
    for index in 0..taken {
        colours.add(&images[index * all / taken * IMAGE_BYTES..][..IMAGE_BYTES]);
    }
    colours
}

/// Statistics of a set of images, and the first of them.
struct Collected {
    /// Of drawn and real images; training sets are large, and nobody asks for theirs.
    spectrum: Option<RadialSpectrum>,
    /// Of the same.
    colours: ColourHistogram,
    kept: Vec<f32>,
    most_kept: usize,
}

impl Collected {
    /// Statistics of all images, of which so many are kept.
    fn new(most_kept: usize) -> Self {
        Self {
            spectrum: Some(RadialSpectrum::new(SIDE)),
            ..Self::whole(most_kept)
        }
    }

    /// The images themselves, without a spectrum.
    fn whole(images: usize) -> Self {
        Self {
            spectrum: None,
            colours: ColourHistogram::new(),
            kept: Vec::new(),
            most_kept: images.saturating_mul(IMAGE_BYTES),
        }
    }

    /// Takes in `[batch, 3, 32, 32]`, in \[0, 1\].
    fn add(&mut self, images: Tensor<4>) {
        let data = images.into_data().convert_dtype(burn::tensor::DType::F32);
        let values = data
            .try_to_vec::<f32>()
            .expect("converted to float32 just now");
        for image in values.chunks(IMAGE_BYTES) {
            if let Some(spectrum) = &mut self.spectrum {
                image
                    .chunks(PLANE)
                    .for_each(|channel| spectrum.add(channel));
                self.colours.add(image);
            }
            if self.kept.len() < self.most_kept {
                self.kept.extend_from_slice(image);
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::initial_model;
    use vae_core::{Depth, VaeConfig};

    fn untrained() -> Model {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(4);
        initial_model(&config.into(), 2, &Device::flex())
    }

    fn options(images: usize, neighbours: usize) -> StatisticsOptions<'static> {
        let size = |size| NonZeroUsize::new(size).expect("not zero");
        StatisticsOptions {
            images: size(images),
            neighbours,
            batch_size: size(16),
            prior: &LatentPrior::StandardNormal,
            temperature: 1.0,
            seed: 1,
        }
    }

    #[test]
    fn an_untrained_decoder_is_blurred_and_no_copy() {
        let (model, device) = (untrained(), Device::flex());
        let data = cifar_loader::Cifar10::sample().expect("embedded");
        let options = options(40, 5);
        let training = data.train().first(200);
        let found = sample_statistics(&model, &data.test(), &training, options, &device);
        assert_eq!(
            (found.drawn, found.real, found.power_ratio.len()),
            (40, 40, 16)
        );
        assert!(found.fine_detail() < 0.5, "{}", found.fine_detail());
        assert!(found.colour_distance > found.colour_distance_of_training);
        assert!(found.nearest_training > 1.0 && found.nearest_training_of_real > 1.0);
        // Other batches, the same images.
        let others = StatisticsOptions {
            batch_size: NonZeroUsize::new(7).expect("not zero"),
            ..options
        };
        let again = sample_statistics(&model, &data.test(), &training, others, &device);
        assert!((again.fine_detail() / found.fine_detail() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn colours_are_compared_between_sets_of_one_size() {
        // Ten grey images, each a level lighter.
        let images: Vec<f32> = (0..10)
            .flat_map(|image| [image as f32 / 10.0; IMAGE_BYTES])
            .collect();
        let of = |indices: &[usize]| {
            let mut colours = ColourHistogram::new();
            for index in indices {
                colours.add(&images[index * IMAGE_BYTES..][..IMAGE_BYTES]);
            }
            colours
        };
        let every = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for (count, taken) in [
            (1, &[0][..]),
            (2, &[0, 5]),
            (3, &[0, 3, 6]),
            (10, &every),
            (99, &every),
        ] {
            assert_eq!(colours_of(&images, count).distance(&of(taken)), 0.0);
        }
        assert!(colours_of(&images, 2).distance(&of(&every)) > 0.1);

        // The baseline of few draws is as far off by chance as the draws themselves are: not that of all training images.
        let (model, device) = (untrained(), Device::flex());
        let data = cifar_loader::Cifar10::sample().expect("embedded");
        let options = options(8, 1);
        let (train, test) = (data.train().first(200), data.test());
        let found = sample_statistics(&model, &test, &train, options, &device);
        let pixels = |view: &View, indices: Vec<u32>| -> Vec<f32> {
            let images = view.batch(&indices).to_tensor(&device).into_data();
            images.try_to_vec().expect("float32")
        };
        let eight = pixels(&train, (0..8).map(|index| index * 25).collect());
        let real = pixels(&test, (0..8).collect());
        let expected = colours_of(&eight, 8).distance(&colours_of(&real, 8));
        assert!((found.colour_distance_of_training - expected).abs() < 1e-12);
    }

    #[test]
    fn training_images_are_at_no_distance_from_themselves() {
        let data = cifar_loader::Cifar10::sample().expect("embedded");
        let train = data.train().first(30);
        let images = train.batch(&[3]).to_tensor(&Device::flex());
        let mut collected = Collected::whole(1);
        collected.add(images);
        let mut all = Collected::whole(30);
        all.add(
            train
                .batch(&(0..30).collect::<Vec<u32>>())
                .to_tensor(&Device::flex()),
        );
        assert_eq!(nearest_distance(&collected.kept, &all.kept), Some((3, 0.0)));
    }
}
