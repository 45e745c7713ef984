//! Means and centred second moments of channels, over chunks and then over the batch.
//!
//! A chunk's moments are taken about its own mean and combined by the rule of Chan, Golub and LeVeque (1979), in `f64`:
//! nothing cancels, however far the mean is from zero.

use crate::flex::element::{Real, relu};
use crate::flex::elementwise::{add_channels, add_squares, centre};
use crate::flex::product::{Factor, Mode, multiply};
use crate::shared_batch::SharedBatch;

/// Count, mean and centred second moment: per channel, or per pair of channels.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    /// `[channels]`
    pub(crate) mean: Vec<f64>,
    /// Sum of squares about the mean `[channels]`, or of products `[channels, channels]`.
    pub(crate) second: Vec<f64>,
}

/// The sum of each channel.
///
/// # Shapes
/// - rows: `[.., channels]`
/// - output: `[channels]`
pub(crate) fn channel_sums<T: Real>(rows: &[T], channels: usize) -> Vec<T> {
    let mut sums = vec![T::ZERO; channels];
    add_channels(rows, &mut sums);
    sums
}

/// Pixels that are added in the values' own type, before `f64` takes over: a longer chain of float32 additions forgets what it adds.
const RUN: usize = 1024;

/// What `add_to` adds of every run of pixels, in `f64`.
fn wide_sums<T: Real>(rows: &[T], channels: usize, add_to: impl Fn(&[T], &mut [T])) -> Vec<f64> {
    let mut all = vec![0.0; channels];
    for run in rows.chunks(RUN * channels) {
        let mut sums = vec![T::ZERO; channels];
        add_to(run, &mut sums);
        for (all, sum) in all.iter_mut().zip(&sums) {
            *all += sum.widen();
        }
    }
    all
}

fn channel_means<T: Real>(rows: &[T], channels: usize) -> Vec<T> {
    let count = (rows.len() / channels) as f64;
    wide_sums(rows, channels, |run, sums| add_channels(run, sums))
        .into_iter()
        .map(|sum| T::narrow(sum / count))
        .collect()
}

/// Mean and sum of squares of each channel of `[.., channels]`.
pub(crate) fn channel_moments<T: Real>(rows: &[T], channels: usize) -> Moments {
    let mean = channel_means(rows, channels);
    let second = wide_sums(rows, channels, |run, sums| add_squares(run, &mean, sums));
    Moments {
        count: (rows.len() / channels) as f64,
        mean: mean.iter().map(|value| value.widen()).collect(),
        second,
    }
}

/// Mean and products of every pair of channels of `[.., channels]`, which is left centred.
pub(crate) fn cross_moments<T: Real>(rows: &mut [T], channels: usize) -> Moments {
    let mean = channel_means(rows, channels);
    centre(rows, &mean);
    let count = rows.len() / channels;
    let mut second = vec![T::ZERO; channels * channels];
    multiply(
        &mut second,
        channels,
        [channels, channels, count],
        Factor::columns(rows, channels),
        Factor::rows(rows, channels),
        Mode::Overwrite,
    );
    Moments {
        count: count as f64,
        mean: mean.iter().map(|value| value.widen()).collect(),
        second: second.iter().map(|value| value.widen()).collect(),
    }
}

impl Moments {
    /// The moments of all chunks together.
    pub(crate) fn combine<'a>(chunks: impl IntoIterator<Item = &'a Moments>) -> Moments {
        let mut chunks = chunks.into_iter();
        let mut all = chunks
            .next()
            .expect("a batch has at least one chunk")
            .clone();
        let channels = all.mean.len();
        let is_cross = all.second.len() != channels;
        for chunk in chunks {
            let count = all.count + chunk.count;
            let distance: Vec<f64> = chunk
                .mean
                .iter()
                .zip(&all.mean)
                .map(|(a, b)| a - b)
                .collect();
            let weight = all.count * chunk.count / count;
            for (index, (sum, value)) in all.second.iter_mut().zip(&chunk.second).enumerate() {
                let product = if is_cross {
                    distance[index / channels] * distance[index % channels]
                } else {
                    distance[index] * distance[index]
                };
                *sum += value + weight * product;
            }
            for (mean, distance) in all.mean.iter_mut().zip(&distance) {
                *mean += distance * chunk.count / count;
            }
            all.count = count;
        }
        all
    }

    /// The moments of a channel over all shards of a batch, where it is one; these are of `[channels]`.
    ///
    /// Sums about zero travel, in `f64`: what cancels is far below what the values themselves were rounded to.
    pub(crate) fn shared(self, batch: Option<&SharedBatch>) -> Moments {
        let Some(batch) = batch else { return self };
        let channels = self.mean.len();
        let mut sums = vec![self.count];
        sums.extend(self.mean.iter().map(|mean| self.count * mean));
        let squares = self.second.iter().zip(&self.mean);
        sums.extend(squares.map(|(second, mean)| second + self.count * mean * mean));
        let sums = batch.sum(sums);
        let (count, sums) = (sums[0], &sums[1..]);
        let mean: Vec<f64> = sums[..channels].iter().map(|sum| sum / count).collect();
        let squares = sums[channels..].iter().zip(&mean);
        let second = squares.map(|(square, mean)| relu(square - count * mean * mean));
        Moments {
            count,
            second: second.collect(),
            mean,
        }
    }

    /// Variances, or covariances (biased).
    pub(crate) fn covariance(&self) -> Vec<f64> {
        self.second.iter().map(|sum| sum / self.count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flat background in a large image: four of five values are equal.
    #[test]
    fn moments_of_large_images_are_those_of_float64() {
        let pixels = 512 * 512;
        let rows: Vec<f64> = (0..pixels)
            .map(|pixel| match pixel % 5 {
                0 => (f64::from(pixel) * 0.37).sin(),
                _ => 0.7,
            })
            .map(|value| f64::from(value as f32))
            .collect();
        let narrow: Vec<f32> = rows.iter().map(|value| *value as f32).collect();
        let (expected, found) = (channel_moments(&rows, 1), channel_moments(&narrow, 1));
        let off = |found: f64, expected: f64| (found / expected - 1.0).abs();
        // One chain of float32 additions is off by 2e-3 and 9e-4 here.
        let off_by = [
            off(found.mean[0], expected.mean[0]),
            off(found.second[0], expected.second[0]),
        ];
        assert!(off_by.iter().all(|off| *off < 5e-5), "{off_by:?}");
    }

    #[test]
    fn parts_combine_to_the_moments_of_the_whole() {
        let values: Vec<f64> = (0..42)
            .map(|index| 1e3 + ((index * 37) % 23) as f64)
            .collect();
        let whole = channel_moments(&values, 3);
        let chunks = [
            channel_moments(&values[..9], 3),
            channel_moments(&values[9..30], 3),
            channel_moments(&values[30..], 3),
        ];
        let all = Moments::combine(&chunks);
        let cross = Moments::combine(&[
            cross_moments(&mut values[..9].to_vec(), 3),
            cross_moments(&mut values[9..].to_vec(), 3),
        ]);
        for channel in 0..3 {
            assert!((whole.mean[channel] - all.mean[channel]).abs() < 1e-9);
            assert!((whole.second[channel] / all.second[channel] - 1.0).abs() < 1e-9);
            assert!((whole.second[channel] / cross.second[channel * 4] - 1.0).abs() < 1e-9);
        }
        let covariance = cross.covariance();
        assert!((covariance[1] - covariance[3]).abs() < 1e-12, "symmetric");
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_precision() {
        let values: Vec<f32> = (0..1000).map(|index| 4096.0 + (index % 2) as f32).collect();
        let moments = channel_moments(&values, 1);
        assert_eq!((moments.mean[0], moments.covariance()[0]), (4096.5, 0.25));
    }
}
