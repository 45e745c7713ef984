//! Random numbers as pure functions of (seed, purpose, index), so that a run has no generator state to save.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. Streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; indexed by the parameter's position in the model.
    InitialWeights,
    /// The latent's noise in training; indexed by step.
    TrainingNoise,
    /// Dropout masks; indexed by step.
    Dropout,
    /// The latent's noise in evaluation; indexed by epoch and block of a hundred images, see [`evaluation_noise`].
    EvaluationNoise,
    /// Latents of the sample sheets; indexed by sheet.
    Samples,
    /// The latents' noise of the importance-weighted bound; indexed by image and draw.
    ImportanceNoise,
    /// Choice of pixels from their distributions; indexed by image.
    PixelNoise,
    /// Draws of the latents' mutual information with the image; indexed by image.
    InformationNoise,
}

/// Images whose noise in evaluation comes from one stream.
const IMAGES_A_STREAM: usize = 100;

/// The latent's noise of some images of a split in evaluation: of each image the same, however many are taken at a time.
///
/// `draw` is the epoch in training and 0 for a final score, `images` are positions in the split.
///
/// # Shapes
/// - output: `[images, latent_dim]`
pub fn evaluation_noise(seed: u64, draw: u32, images: Range<usize>, latent_dim: usize) -> Vec<f32> {
    let mut noise = Vec::with_capacity(images.len() * latent_dim);
    let mut next = images.start;
    while next < images.end {
        let block = next / IMAGES_A_STREAM;
        let first = block * IMAGES_A_STREAM;
        let end = images.end.min(first + IMAGES_A_STREAM);
        let index = u64::from(draw) << 32 | block as u64;
        let stream = Stream::new(seed, Purpose::EvaluationNoise, index)
            .standard_normal((end - first) * latent_dim);
        noise.extend(&stream[(next - first) * latent_dim..]);
        next = end;
    }
    noise
}

/// A stream of random numbers that depends on its three keys alone.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed` for one purpose and index.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = match purpose {
            Purpose::InitialWeights => 1,
            Purpose::TrainingNoise => 2,
            Purpose::Dropout => 3,
            Purpose::EvaluationNoise => 4,
            Purpose::Samples => 5,
            Purpose::ImportanceNoise => 6,
            Purpose::PixelNoise => 7,
            Purpose::InformationNoise => 8,
        };
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        Self(generator)
    }

    /// The next `count` draws from the uniform distribution over \[0, 1), multiples of 2^-24.
    pub fn uniform(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }

    /// The next `count` draws from the standard normal distribution, by Box and Muller's transform in float64.
    pub fn standard_normal(&mut self, count: usize) -> Vec<f32> {
        let mut draws = Vec::with_capacity(count + 1);
        while draws.len() < count {
            // 1 - u lies in (0, 1], where the logarithm is finite.
            let radius = (-2.0 * (1.0 - self.wide_unit()).ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * self.wide_unit()).sin_cos();
            draws.extend([(radius * cosine) as f32, (radius * sine) as f32]);
        }
        draws.truncate(count);
        draws
    }

    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    fn wide_unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_changes_the_stream_and_equal_keys_do_not() {
        let draw = |seed, purpose, index| Stream::new(seed, purpose, index).uniform(4);
        let reference = draw(1, Purpose::TrainingNoise, 7);
        assert_eq!(reference, draw(1, Purpose::TrainingNoise, 7));
        assert_ne!(reference, draw(2, Purpose::TrainingNoise, 7));
        assert_ne!(reference, draw(1, Purpose::Dropout, 7));
        assert_ne!(reference, draw(1, Purpose::TrainingNoise, 8));
    }

    #[test]
    fn the_first_draws_never_change() {
        // A change here would make every saved run unrepeatable. The values come from a second implementation of
        // ChaCha with eight rounds, written from its definition: the first words of stream 0, and of stream 7.
        let first = |index| Stream::new(1, Purpose::TrainingNoise, index).uniform(2);
        assert_eq!(first(0), [0.188_719_93, 0.329_749_46]);
        assert_eq!(first(7), [0.266_053_02, 0.427_831_23]);
    }

    #[test]
    fn an_images_noise_in_evaluation_does_not_depend_on_how_many_are_taken_at_a_time() {
        for latent_dim in [1, 3, 32] {
            let whole = evaluation_noise(7, 2, 0..257, latent_dim);
            assert_eq!(whole.len(), 257 * latent_dim);
            for batch in [1usize, 7, 99, 100, 101, 256] {
                let batches = (0..257usize).step_by(batch).flat_map(|first| {
                    evaluation_noise(7, 2, first..257.min(first + batch), latent_dim)
                });
                assert!(batches.eq(whole.iter().copied()), "{batch} at a time");
            }
            // A hundred at a time, the draws are those of runs before there was another way.
            let second = Stream::new(7, Purpose::EvaluationNoise, 2 << 32 | 1);
            let second = { second }.standard_normal(100 * latent_dim);
            assert_eq!(whole[100 * latent_dim..200 * latent_dim], second);
        }
    }

    #[test]
    fn normal_draws_have_the_moments_of_the_standard_normal() {
        let draws = Stream::new(3, Purpose::EvaluationNoise, 0).standard_normal(200_001);
        assert_eq!(draws.len(), 200_001);
        let moment = |power: i32| {
            draws
                .iter()
                .map(|draw| (*draw as f64).powi(power))
                .sum::<f64>()
                / draws.len() as f64
        };
        // Six standard errors each.
        assert!(moment(1).abs() < 0.014, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.019, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.052, "skewness {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.132, "kurtosis {}", moment(4));
    }
}
