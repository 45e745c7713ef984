//! Statistics of sets of images that need no trained network: how sharp they are, what colours they have, and whether they
//! are copies.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

/// Mean power at each spatial frequency of square images, by distance from frequency 0.
///
/// Blurred images lack power at high frequencies: the ratio of two sets' spectra says how much.
#[derive(Clone, Debug, PartialEq)]
pub struct RadialSpectrum {
    size: usize,
    /// Sum over images of the mean power at distance 0, 1, .., size / 2 cycles.
    sums: Vec<f64>,
    channels: u64,
    cosines: Vec<f64>,
    sines: Vec<f64>,
}

impl RadialSpectrum {
    /// Of no images, `size` pixels high and wide.
    pub fn new(size: usize) -> Self {
        let angle = |k: usize| std::f64::consts::TAU * k as f64 / size as f64;
        Self {
            size,
            sums: vec![0.0; size / 2 + 1],
            channels: 0,
            cosines: (0..size).map(|k| angle(k).cos()).collect(),
            sines: (0..size).map(|k| angle(k).sin()).collect(),
        }
    }

    /// Takes one channel of one image in, row by row.
    ///
    /// # Panics
    /// If it is not `size` by `size`.
    pub fn add(&mut self, channel: &[f32]) {
        let size = self.size;
        assert_eq!(channel.len(), size * size, "values of a channel");
        // Rows, then columns; a real image needs half of the first.
        let half = size / 2 + 1;
        let mut rows = vec![(0.0, 0.0); size * half];
        for (y, row) in channel.chunks(size).enumerate() {
            for k in 0..half {
                let (mut real, mut imaginary) = (0.0, 0.0);
                for (x, value) in row.iter().enumerate() {
                    let at = k * x % size;
                    real += f64::from(*value) * self.cosines[at];
                    imaginary -= f64::from(*value) * self.sines[at];
                }
                rows[y * half + k] = (real, imaginary);
            }
        }
        let (mut power, mut count) = (vec![0.0; half], vec![0.0; half]);
        for k in 0..half {
            for l in 0..size {
                let distance = (k as f64).hypot(l.min(size - l) as f64).round() as usize;
                if distance >= half {
                    continue;
                }
                let (mut real, mut imaginary) = (0.0, 0.0);
                for y in 0..size {
                    let at = l * y % size;
                    let (a, b) = rows[y * half + k];
                    real += a * self.cosines[at] + b * self.sines[at];
                    imaginary += b * self.cosines[at] - a * self.sines[at];
                }
                // Frequency -k has the same power.
                let times = if k == 0 || 2 * k == size { 1.0 } else { 2.0 };
                power[distance] += times * (real * real + imaginary * imaginary);
                count[distance] += times;
            }
        }
        for ((sum, power), count) in self.sums.iter_mut().zip(power).zip(count) {
            *sum += power / count;
        }
        self.channels += 1;
    }

    /// Mean power at each distance, 0 to size / 2 cycles an image.
    pub fn power(&self) -> Vec<f64> {
        self.sums
            .iter()
            .map(|sum| sum / self.channels as f64)
            .collect()
    }

    /// This set's power over that of `reference`, at each distance from 1 cycle on.
    pub fn ratio(&self, reference: &Self) -> Vec<f64> {
        let pairs = self.power().into_iter().zip(reference.power());
        pairs.skip(1).map(|(own, other)| own / other).collect()
    }
}

/// How often each colour occurs, red, green and blue in eight steps each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColourHistogram {
    counts: Vec<u64>,
}

impl Default for ColourHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl ColourHistogram {
    /// Of no pixels.
    pub fn new() -> Self {
        Self {
            counts: vec![0; 512],
        }
    }

    /// Takes in one image of three channels, one after the other, with values in \[0, 1\].
    ///
    /// # Panics
    /// If the channels are not of one size.
    pub fn add(&mut self, image: &[f32]) {
        assert_eq!(image.len() % 3, 0, "three channels");
        let (red, rest) = image.split_at(image.len() / 3);
        let (green, blue) = rest.split_at(rest.len() / 2);
        let step = |value: f32| ((value * 8.0) as usize).min(7);
        for ((red, green), blue) in red.iter().zip(green).zip(blue) {
            self.counts[64 * step(*red) + 8 * step(*green) + step(*blue)] += 1;
        }
    }

    /// Total variation distance to another histogram: the share of pixels that would have to change colour, 0 to 1.
    pub fn distance(&self, other: &Self) -> f64 {
        let share = |histogram: &Self| {
            let total: u64 = histogram.counts.iter().sum();
            histogram
                .counts
                .iter()
                .map(|count| *count as f64 / total as f64)
                .collect::<Vec<_>>()
        };
        let pairs = share(self).into_iter().zip(share(other));
        0.5 * pairs.map(|(a, b)| (a - b).abs()).sum::<f64>()
    }
}

/// Euclidean distance of an image to the nearest of others, with values in \[0, 1\], and which one that is; none where there
/// are no others.
///
/// # Panics
/// If the others are not whole.
pub fn nearest_distance(image: &[f32], others: &[f32]) -> Option<(usize, f64)> {
    assert_eq!(others.len() % image.len(), 0, "whole images");
    let squares = others.chunks(image.len()).map(|other| {
        // Eight sums that do not depend on each other fill wide registers.
        let mut sums = [0.0f32; 8];
        let (a, b) = (image.as_chunks::<8>(), other.as_chunks::<8>());
        for (a, b) in a.0.iter().zip(b.0) {
            for lane in 0..8 {
                let difference = a[lane] - b[lane];
                sums[lane] += difference * difference;
            }
        }
        let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| (a - b) * (a - b)).sum();
        f64::from(sums.iter().sum::<f32>() + rest)
    });
    let nearest = squares
        .enumerate()
        .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((nearest.0, nearest.1.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_has_its_power_at_its_frequency() {
        let size = 32;
        let wave: Vec<f32> = (0..size * size)
            .map(|at| (std::f32::consts::TAU * 5.0 * (at % size) as f32 / size as f32).cos())
            .collect();
        let mut spectrum = RadialSpectrum::new(size);
        spectrum.add(&wave);
        let power = spectrum.power();
        // (n^2 / 2)^2 at (5, 0) and (-5, 0), among all points at a rounded distance of 5.
        let around = (0..size * size)
            .filter(|at| {
                let along = |k: usize| k.min(size - k) as f64;
                along(at % size).hypot(along(at / size)).round() == 5.0
            })
            .count();
        let expected = 2.0 * 512f64.powi(2) / around as f64;
        assert!(
            (power[5] / expected - 1.0).abs() < 1e-5,
            "{} {expected}",
            power[5]
        );
        for (distance, power) in power.into_iter().enumerate() {
            assert!(
                distance == 5 || power < 1e-6 * expected,
                "{distance}: {power}"
            );
        }
    }

    #[test]
    fn power_sums_to_the_squares_of_the_values() {
        // Parseval, for an image whose corner frequencies are empty.
        let size = 16;
        let values: Vec<f32> = (0..size * size)
            .map(|at| {
                let angle = |times: usize| std::f32::consts::TAU * times as f32 / size as f32;
                0.3 + angle(at % size * 3).sin() + 0.5 * angle(at / size * 2 + at % size).cos()
            })
            .collect();
        let mut spectrum = RadialSpectrum::new(size);
        spectrum.add(&values);
        let mut counts = vec![0.0; size / 2 + 1];
        for at in 0..size * size {
            let along = |k: usize| k.min(size - k) as f64;
            let distance = along(at % size).hypot(along(at / size)).round() as usize;
            if let Some(count) = counts.get_mut(distance) {
                *count += 1.0;
            }
        }
        let power: f64 = spectrum
            .power()
            .iter()
            .zip(counts)
            .map(|(power, count)| power * count)
            .sum();
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!((power / (squares * (size * size) as f64) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn blur_lowers_the_ratio_at_high_frequencies_only() {
        let size = 16;
        let noise: Vec<f32> = (0..size * size)
            .map(|at| (at * 7919 % 101) as f32 / 101.0)
            .collect();
        let blurred: Vec<f32> = (0..size * size)
            .map(|at| {
                let (y, x) = (at / size, at % size);
                let wrapped =
                    |dy: usize, dx: usize| noise[(y + dy) % size * size + (x + dx) % size];
                (wrapped(0, 0) + wrapped(0, 1) + wrapped(1, 0) + wrapped(1, 1)) / 4.0
            })
            .collect();
        let spectrum = |values: &[f32]| {
            let mut spectrum = RadialSpectrum::new(size);
            spectrum.add(values);
            spectrum
        };
        let ratio = spectrum(&blurred).ratio(&spectrum(&noise));
        assert!(ratio[0] > 0.9 && ratio[7] < 0.5, "{ratio:?}");
    }

    #[test]
    fn colours_that_never_meet_are_at_distance_1() {
        let (mut black, mut white, mut half) = (
            ColourHistogram::new(),
            ColourHistogram::new(),
            ColourHistogram::new(),
        );
        black.add(&[0.0; 12]);
        white.add(&[1.0; 12]);
        half.add(&[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!((black.distance(&white), black.distance(&black)), (1.0, 0.0));
        assert_eq!((half.distance(&black), half.distance(&white)), (0.5, 0.5));
    }

    #[test]
    fn the_nearest_image_is_found() {
        let others = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.9];
        assert_eq!(nearest_distance(&[1.0, 1.0, 1.0], &others), Some((1, 0.0)));
        let (index, distance) = nearest_distance(&[0.5, 0.5, 0.5], &others).expect("three others");
        assert_eq!(index, 2);
        assert!((distance - 0.4).abs() < 1e-6);
        assert_eq!(nearest_distance(&[0.5], &[]), None);
    }
}
