//! A model's passes without gradients over as many images as a device has buffers for.
//!
//! A map of a whole batch is one buffer, and devices have none above a size: 128 MiB on lavapipe, say. Each image's result is its own there, since
//! norms use running statistics; so a batch is divided where its maps would be larger.

use std::num::NonZeroUsize;

use burn::prelude::*;
use resnet_blocks::join;
use vae_core::{Autoencoder, DiagonalGaussian};

use crate::experiment::model::Model;

/// Of the maps' values, in the larger of their types.
const VALUE_BYTES: usize = 4;

/// As those of [`Autoencoder`], which they stand before.
impl Model {
    /// The posterior of each image's latent, `[batch, latent_dim]`, of images `[batch, channels, height, width]`.
    pub fn posterior(&self, images: Tensor<4>) -> DiagonalGaussian {
        let of = |images| {
            let posterior = self.whole().posterior(images);
            [posterior.mean, posterior.log_variance]
        };
        let [mean, log_variance] = self.in_parts(images, of);
        DiagonalGaussian { mean, log_variance }
    }

    /// The parameters of each pixel's distribution, `[batch, map_channels, height, width]`, of latents `[batch, latent_dim]`.
    pub fn output_map(&self, latents: Tensor<2>) -> Tensor<4> {
        let [map] = self.in_parts(latents, |latents| [self.whole().output_map(latents)]);
        map
    }

    /// The mean images of latents, in \[0, 1\].
    pub fn generate(&self, latents: Tensor<2>) -> Tensor<4> {
        let [images] = self.in_parts(latents, |latents| [self.whole().generate(latents)]);
        images
    }

    /// The reconstruction from the posterior's mean, in \[0, 1\].
    pub fn reconstruct(&self, images: Tensor<4>) -> Tensor<4> {
        let [images] = self.in_parts(images, |images| [self.whole().reconstruct(images)]);
        images
    }

    /// Images that the device takes at a time, of `images` that are asked for.
    pub(crate) fn at_a_time(&self, images: NonZeroUsize, device: &Device) -> NonZeroUsize {
        at_a_time(images, self.largest_map(), largest_buffer(device))
    }

    /// Without the divisions.
    fn whole(&self) -> &dyn Autoencoder {
        &**self
    }

    fn in_parts<const D: usize, const E: usize, const N: usize>(
        &self,
        rows: Tensor<D>,
        of: impl Fn(Tensor<D>) -> [Tensor<E>; N],
    ) -> [Tensor<E>; N] {
        let (all, device) = (rows.dims()[0], rows.device());
        // With batch statistics every image depends on all others.
        let most = match NonZeroUsize::new(all) {
            Some(images) if !device.is_autodiff() => self.at_a_time(images, &device).get(),
            _ => all,
        };
        in_parts(rows, most, of)
    }
}

/// What `of` makes of all rows, of so many at a time at most.
fn in_parts<const D: usize, const E: usize, const N: usize>(
    rows: Tensor<D>,
    most: usize,
    of: impl Fn(Tensor<D>) -> [Tensor<E>; N],
) -> [Tensor<E>; N] {
    let all = rows.dims()[0];
    if most >= all {
        return of(rows);
    }
    let mut results: [Vec<Tensor<E>>; N] = std::array::from_fn(|_| Vec::new());
    for first in (0..all).step_by(most) {
        let part = of(rows.clone().narrow(0, first, most.min(all - first)));
        for (results, result) in results.iter_mut().zip(part) {
            results.push(result);
        }
    }
    results.map(|parts| join(parts, 0))
}

/// Of `images`, as many as have maps of so many values each that fit a buffer. One where not even that fits: the device tells so.
pub(crate) fn at_a_time(
    images: NonZeroUsize,
    values: usize,
    largest_buffer: Option<u64>,
) -> NonZeroUsize {
    let Some(bytes) = largest_buffer else {
        return images;
    };
    let fit = bytes / (VALUE_BYTES * values).max(1) as u64;
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    NonZeroUsize::new(fit).map_or(NonZeroUsize::MIN, |fit| fit.min(images))
}

/// Bytes; none where the device has no limit of its own.
pub(crate) fn largest_buffer(device: &Device) -> Option<u64> {
    #[cfg(feature = "cube")]
    return resnet_blocks::cube::largest_buffer(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}

/// The same of the step that stays on a device.
pub(crate) fn largest_step_buffer(device: &Device) -> Option<u64> {
    #[cfg(feature = "cube")]
    return resnet_blocks::cube::largest_workspace_buffer(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_images_as_fit_and_one_at_least() {
        let of = |images, largest_buffer| {
            let images = NonZeroUsize::new(images).expect("above zero");
            at_a_time(images, 1 << 20, largest_buffer).get()
        };
        assert_eq!(of(100, None), 100);
        assert_eq!(of(100, Some(128 << 20)), 32);
        assert_eq!(of(20, Some(128 << 20)), 20);
        assert_eq!(of(20, Some(1 << 20)), 1);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn parts_come_in_order_and_none_is_larger() {
        let values: Vec<f32> = (0..14).map(|value| value as f32).collect();
        let rows = Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([7, 2]);
        for most in [1, 2, 3, 6, 7, 100] {
            let sizes = std::cell::RefCell::new(Vec::new());
            let of = |part: Tensor<2>| {
                sizes.borrow_mut().push(part.dims()[0]);
                [part.clone() + 1.0, part * 2.0]
            };
            let [more, double] = in_parts(rows.clone(), most, of);
            let read = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().expect("float32");
            let expected =
                |of: fn(f32) -> f32| values.iter().map(|value| of(*value)).collect::<Vec<_>>();
            assert_eq!(read(more), expected(|value| value + 1.0));
            assert_eq!(read(double), expected(|value| value * 2.0));
            let sizes = sizes.into_inner();
            assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
            assert_eq!(sizes.len(), 7usize.div_ceil(most));
        }
    }
}
