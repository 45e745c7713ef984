//! The gradient of the draw, and what the KL divergence of each latent dimension counts.

use cubecl::prelude::*;
use resnet_blocks::cube::{Matrix, Queue, cubes, units};

use super::{Batch, Network, Objective, Posterior, record_len};
use crate::flat::argument;
use crate::kernels::optimizer::{RATES_LEN, RECORD_FREE_BITS, RECORD_LEN, STATE_LEN};
use crate::kernels::{UNITS, latent};

impl Network {
    /// The gradients of the mean and of the log-variance, from that of the draw and from the KL divergence.
    pub(super) fn draw_gradient(
        &self,
        queue: &Queue,
        batch: &Batch,
        (Posterior { mean, log_variance }, d_z): (&Posterior, &Matrix),
        objective: &Objective,
    ) -> [Matrix; 2] {
        let count = d_z.len();
        let empty = || Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let (d_mean, d_log_variance) = (empty(), empty());
        // SAFETY: one unit a value of each; a slope for each dimension.
        unsafe {
            latent::draw_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                mean.argument(),
                log_variance.argument(),
                argument(&batch.noise, count),
                d_z.argument(),
                argument(&objective.rates, RATES_LEN),
                argument(&objective.state, STATE_LEN),
                argument(&objective.kl_slopes, self.latent_dim),
                d_mean.argument(),
                d_log_variance.argument(),
                count,
                self.latent_dim,
                objective.share,
                1.0 / batch.len as f32,
                self.storage.elem(),
            );
        }
        [d_mean, d_log_variance]
    }

    /// Each dimension's divergence, summed over the images.
    pub(super) fn sum_kl(
        &self,
        queue: &Queue,
        batch: &Batch,
        Posterior { mean, log_variance }: &Posterior,
        objective: &Objective,
    ) {
        // SAFETY: one unit a dimension.
        unsafe {
            latent::kl_sums::launch_unchecked(
                queue,
                cubes(self.latent_dim),
                units(),
                mean.argument(),
                log_variance.argument(),
                argument(&objective.kl_sums, self.latent_dim),
                batch.len,
                self.latent_dim,
            );
        }
    }

    /// Which dimensions count, from their sums.
    pub(super) fn free_bits(&self, queue: &Queue, batch: &Batch, objective: &Objective, free: f32) {
        let len = record_len(batch.len);
        // SAFETY: one cube goes through the dimensions.
        unsafe {
            latent::free_bits::launch_unchecked(
                queue,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                argument(&objective.kl_sums, self.latent_dim),
                argument(&objective.kl_slopes, self.latent_dim),
                argument(&batch.record, len),
                len - RECORD_LEN + RECORD_FREE_BITS,
                self.latent_dim,
                1.0 / batch.len as f32,
                free,
            );
        }
    }
}
