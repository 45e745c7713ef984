//! The distribution of an image's values, given the decoder's map: its loss and its gradient.

use burn::prelude::Tensor;
use cubecl::prelude::*;
use resnet_blocks::cube::{
    Matrix, Queue, Storage, Vector32, column_sums, device_of, pixels, values as vector,
};
use vae_measures::{Likelihood, Scale};

use crate::flat::{argument, read};
use crate::kernels::{UNITS, mixture, values};
use crate::outcome::StepError;

/// Distributions of an image's values.
pub(super) enum Pixels {
    /// Every value for itself; which distribution, as [`values`] numbers them.
    Values { distribution: u32, scales: Scales },
    /// All values of a pixel together.
    Mixture { components: usize },
}

/// Where the scales of [`Pixels::Values`] come from.
pub(super) enum Scales {
    None,
    /// The output map, behind all means.
    Map,
    /// One for each colour.
    Colours {
        log_scales: Vector32,
        gradient: Vector32,
    },
}

/// What a loss is of.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// Of the parameters, without the bias.
    pub(super) map: &'a Matrix,
    pub(super) bias: &'a Vector32,
    pub(super) pixels: &'a Matrix,
    pub(super) images: usize,
    pub(super) colours: usize,
}

impl Pixels {
    /// None where there are no kernels for it, or the log-scales that a model has for each colour are missing; these and their gradient are `of_colours`.
    pub(super) fn of(
        likelihood: Likelihood,
        of_colours: impl FnOnce() -> Option<(Vector32, Vector32)>,
    ) -> Option<Self> {
        let (distribution, scale) = match likelihood {
            Likelihood::LogisticMixture { components } => {
                return Some(Self::Mixture { components });
            }
            Likelihood::Bernoulli => (values::BERNOULLI, None),
            Likelihood::RenormalisedBernoulli => (values::RENORMALISED_BERNOULLI, None),
            Likelihood::Logistic { scale } => (values::LOGISTIC, Some(scale)),
            Likelihood::Gaussian { scale } => (values::GAUSSIAN, Some(scale)),
            // One that has no kernels yet: Burn's operations take the step.
            #[allow(unreachable_patterns)]
            _ => return None,
        };
        let scales = match scale {
            None => Scales::None,
            Some(Scale::PerPixel) => Scales::Map,
            Some(Scale::Global) => {
                let (log_scales, gradient) = of_colours()?;
                Scales::Colours {
                    log_scales,
                    gradient,
                }
            }
        };
        Some(Self::Values {
            distribution,
            scales,
        })
    }

    /// Writes each image's term at the beginning of the record. The gradient is that of the mean over the images: by the map, and by the log-scales of
    /// colours at each pixel.
    pub(super) fn loss(
        &self,
        queue: &Queue,
        given: Given<'_>,
        storage: Storage,
        record: impl Fn() -> BufferArg,
    ) -> (Matrix, Option<Matrix>) {
        let Given {
            map,
            bias,
            pixels,
            images,
            colours,
        } = given;
        let gradient = Matrix::empty(queue, map.rows, map.columns, storage);
        let positions = map.rows / images;
        let cubes = CubeCount::Static(images as u32, 1, 1);
        let units = CubeDim::new_1d(UNITS as u32);
        let reciprocal = 1.0 / images as f32;
        let (distribution, scales) = match self {
            Self::Mixture { components } => {
                // SAFETY: a cube an image, bounded by its positions; the map has as many channels as the components read.
                unsafe {
                    mixture::mixture::launch_unchecked(
                        queue,
                        cubes,
                        units,
                        map.argument(),
                        bias.argument(),
                        pixels.argument(),
                        gradient.argument(),
                        record(),
                        positions,
                        *components,
                        reciprocal,
                        storage.elem(),
                    );
                }
                return (gradient, None);
            }
            Self::Values {
                distribution,
                scales,
            } => (*distribution, scales),
        };
        let (scale, log_scales, of_scales) = match scales {
            Scales::None => (values::NO_SCALE, bias, None),
            Scales::Map => (values::SCALE_OF_VALUE, bias, None),
            Scales::Colours { log_scales, .. } => {
                let of_scales = Matrix::empty(queue, map.rows, colours, Storage::F32);
                (values::SCALE_OF_COLOUR, log_scales, Some(of_scales))
            }
        };
        // SAFETY: as above; the record stands for a gradient that is not written.
        unsafe {
            values::negative_log_probability::launch_unchecked(
                queue,
                cubes,
                units,
                map.argument(),
                bias.argument(),
                log_scales.argument(),
                pixels.argument(),
                gradient.argument(),
                of_scales
                    .as_ref()
                    .map_or_else(&record, |of_scales| of_scales.argument()),
                record(),
                positions,
                colours,
                reciprocal,
                distribution,
                scale,
                storage.elem(),
            );
        }
        (gradient, of_scales)
    }

    /// Sums the gradient of the log-scales of colours, where there are any.
    pub(super) fn sum_scale_gradients(&self, queue: &Queue, of_scales: Option<Matrix>) {
        if let (
            Self::Values {
                scales: Scales::Colours { gradient, .. },
                ..
            },
            Some(of_scales),
        ) = (self, of_scales)
        {
            column_sums(queue, &of_scales, None, None, Some(gradient));
        }
    }
}

/// A likelihood of given images, and its gradient, by the kernels of a step: to test them against numbers that no network makes.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct ImageLikelihood {
    /// Of each image.
    pub nll: Vec<f32>,
    /// Of the mean over the images, by the map; channels last.
    pub by_map: Vec<f32>,
    /// By the log-scale of each colour, where they have one.
    pub by_log_scale: Option<Vec<f32>>,
}

/// See [`ImageLikelihood`]; none where there are no kernels for it, or the tensors are elsewhere.
///
/// # Shapes
/// - map: `[batch, likelihood.map_channels(3), height, width]`, without the channels of scales that `log_scales` (`[3]`) has
/// - images: `[batch, 3, height, width]`, in \[0, 1\]
///
/// # Errors
/// If the device failed.
#[doc(hidden)]
pub fn image_likelihood(
    likelihood: Likelihood,
    map: Tensor<4>,
    log_scales: Option<Tensor<1>>,
    images: Tensor<4>,
) -> Option<Result<ImageLikelihood, StepError>> {
    let device = device_of(images.clone())?;
    let queue = &device.client;
    let [batch, colours, ..] = images.dims();
    let of_colours = || {
        let log_scales = vector(log_scales?)?;
        let gradient = Vector32::empty(queue, log_scales.len);
        Some((log_scales, gradient))
    };
    let likelihood = Pixels::of(likelihood, of_colours)?;
    let map_channels = map.dims()[1];
    let bias = vector(Tensor::<1>::zeros([map_channels], &map.device()))?;
    let (map, images) = (pixels(map)?, pixels(images)?);
    let record = Vector32::empty(queue, batch);
    let given = Given {
        map: &map,
        bias: &bias,
        pixels: &images,
        images: batch,
        colours,
    };
    let of_record = || argument(&record.buffer.handle(), record.len);
    let (by_map, of_scales) = likelihood.loss(queue, given, Storage::F32, of_record);
    likelihood.sum_scale_gradients(queue, of_scales);
    let read = |handle| read(queue, &handle).map_err(StepError);
    let by_log_scale = match &likelihood {
        Pixels::Values {
            scales: Scales::Colours { gradient, .. },
            ..
        } => Some(read(gradient.buffer.handle())),
        _ => None,
    };
    let all = || {
        Ok(ImageLikelihood {
            nll: read(record.buffer.handle())?,
            by_map: read(by_map.buffer.handle())?,
            by_log_scale: by_log_scale.transpose()?,
        })
    };
    Some(all())
}
