//! Where the statistics of a block's norms come from.

use crate::cube::matrix::{Matrix, Vector32};
use crate::cube::norm::{Moments, Statistics, batch_statistics, given_statistics};

use super::device::Device;

/// A norm's input and statistics.
#[derive(Clone)]
pub(in crate::cube) struct Normed {
    pub(in crate::cube) map: Matrix,
    pub(in crate::cube) statistics: Statistics,
}

/// Where the statistics of a block's norms come from.
pub(super) enum Source<'a> {
    Batch {
        /// Of each norm.
        moments: Vec<Moments>,
        /// Where they are to be written; none for new memory.
        into: Option<&'a [Moments]>,
    },
    /// Of each norm, of the product with its bias.
    Running(&'a [Moments]),
}

pub(super) struct Forward<'a> {
    pub(super) device: Device,
    pub(super) epsilon: [f64; 4],
    pub(super) source: Source<'a>,
}

impl Forward<'_> {
    /// The statistics of the `index`-th norm over a map that stands for `spread` times as many positions.
    fn statistics(
        &mut self,
        index: usize,
        map: &Matrix,
        spread: usize,
        bias: &Vector32,
    ) -> Statistics {
        let epsilon = self.epsilon[index] as f32;
        match &mut self.source {
            Source::Batch { moments, into } => {
                let client = &self.device.client;
                let into = into.map(|all| &all[index]);
                let (statistics, of_norm) = batch_statistics(client, map, spread, epsilon, into);
                moments.push(of_norm);
                statistics
            }
            Source::Running(running) => {
                given_statistics(&self.device.client, &running[index], bias, epsilon)
            }
        }
    }

    pub(super) fn norm(
        &mut self,
        index: usize,
        map: Matrix,
        spread: usize,
        bias: &Vector32,
    ) -> Normed {
        let statistics = self.statistics(index, &map, spread, bias);
        Normed { map, statistics }
    }
}
