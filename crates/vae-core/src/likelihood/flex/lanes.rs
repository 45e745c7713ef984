//! Some positions of an image at a time: the map's values as rows of [`LANES`], and what is known of the image there.

// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

use super::real::Real;

/// Positions treated at a time: a whole number of the widest registers, and few enough that a mixture of 10 stays in the
/// nearest cache.
pub(super) const LANES: usize = 64;

/// One value at each position.
pub(super) type Lane<T> = [T; LANES];

/// What is known of the image at each position; one row a colour.
pub(super) struct Pixels<T> {
    /// The level over 255.
    pub(super) share: Vec<Lane<T>>,
    /// The level from -1 to 1.
    pub(super) signed: Vec<Lane<T>>,
    /// -1 at the lowest level, 1 at the highest, else 0.
    pub(super) edge: Vec<Lane<T>>,
}

impl<T: Real> Pixels<T> {
    pub(super) fn new(colours: usize) -> Self {
        let rows = || vec![[T::ZERO; LANES]; colours];
        Self {
            share: rows(),
            signed: rows(),
            edge: rows(),
        }
    }

    /// Takes in a value from 0 to 1.
    #[inline(always)]
    pub(super) fn set(&mut self, colour: usize, lane: usize, value: T) {
        let level = (value * T::from_f64(255.0)).round();
        let highest = T::from_f64(255.0);
        self.share[colour][lane] = level / highest;
        self.signed[colour][lane] = (level + level - highest) / highest;
        let is_highest = if level == highest { T::ONE } else { T::ZERO };
        self.edge[colour][lane] = if level == T::ZERO {
            -T::ONE
        } else {
            is_highest
        };
    }
}

/// How far apart an image's channels and its positions are.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub(super) channel: usize,
    pub(super) position: usize,
}

/// The channels of `lanes` positions, one row a channel.
pub(super) fn gather<T: Real>(
    values: &[T],
    rows: &mut [Lane<T>],
    start: usize,
    lanes: usize,
    strides: Strides,
) {
    if strides.position == 1 {
        for (channel, row) in rows.iter_mut().enumerate() {
            let from = channel * strides.channel + start;
            row[..lanes].copy_from_slice(&values[from..from + lanes]);
        }
    } else {
        for lane in 0..lanes {
            let from = (start + lane) * strides.position;
            let values = &values[from..from + rows.len()];
            for channel in 0..rows.len() {
                rows[channel][lane] = values[channel];
            }
        }
    }
}

/// The reverse of [`gather`].
pub(super) fn scatter<T: Real>(
    rows: &[Lane<T>],
    values: &mut [T],
    start: usize,
    lanes: usize,
    strides: Strides,
) {
    if strides.position == 1 {
        for (channel, row) in rows.iter().enumerate() {
            let to = channel * strides.channel + start;
            values[to..to + lanes].copy_from_slice(&row[..lanes]);
        }
    } else {
        for lane in 0..lanes {
            let to = (start + lane) * strides.position;
            let values = &mut values[to..to + rows.len()];
            for channel in 0..rows.len() {
                values[channel] = rows[channel][lane];
            }
        }
    }
}
