//! The one pass as an operation of Burn: on flex itself, and on autodiff over flex with its own backward.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension,
};
use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::kernel::{LANES, Lane, Pixels, Rows, evaluate};
use super::real::Real;

/// The negative log-probability of each image; none where the tensors are not on flex, or not of one type.
///
/// # Shapes
/// - map: `[batch, 10 components, height, width]`
/// - images: `[batch, 3, height, width]`, in \[0, 1\]
/// - output: `[batch]`
pub(in crate::likelihood) fn mixture_nll(
    map: &Tensor<4>,
    images: &Tensor<4>,
    components: usize,
) -> Option<Tensor<1>> {
    let is_flex = |tensor: &Tensor<4>| {
        matches!(
            tensor.device().inner().as_dispatch(),
            DispatchDevice::Flex(_)
        )
    };
    let is_supported = is_flex(map)
        && is_flex(images)
        && map.dtype() == images.dtype()
        && matches!(map.dtype(), DType::F32 | DType::F64)
        && map.shape().num_elements() > 0;
    is_supported.then(|| {
        let [map, images] = if map.device().is_autodiff() {
            // Both operands of an operation are on one device.
            [map.clone(), images.clone().to_device(&map.device())]
        } else {
            [map.clone(), images.clone()]
        }
        .map(Tensor::into_dispatch);
        Tensor::from_dispatch(Dispatch::logistic_mixture_nll(map, images, components))
    })
}

/// The operation that tensors reach through dispatch.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait MixtureOps: Backend {
    /// Negative log-probability of each image.
    fn logistic_mixture_nll(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        components: usize,
    ) -> FloatTensor<Self>;
}

/// What the backend under autodiff does.
pub(crate) trait MixtureKernel: MixtureOps {
    /// The negative log-probability of each image, and its gradient by the map.
    fn nll_with_gradient(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        components: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient with each image's share multiplied by that image's factor.
    fn scale_images(gradient: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl MixtureOps for Flex {
    fn logistic_mixture_nll(map: FlexTensor, images: FlexTensor, components: usize) -> FlexTensor {
        match map.dtype() {
            DType::F64 => run::<f64, false>(map, images, components).0,
            _ => run::<f32, false>(map, images, components).0,
        }
    }
}

impl MixtureKernel for Flex {
    fn nll_with_gradient(
        map: FlexTensor,
        images: FlexTensor,
        components: usize,
    ) -> (FlexTensor, FlexTensor) {
        match map.dtype() {
            DType::F64 => run::<f64, true>(map, images, components),
            _ => run::<f32, true>(map, images, components),
        }
    }

    fn scale_images(gradient: FlexTensor, factors: FlexTensor) -> FlexTensor {
        match gradient.dtype() {
            DType::F64 => scale_images::<f64>(gradient, factors),
            _ => scale_images::<f32>(gradient, factors),
        }
    }
}

/// Whether a map lies in memory with its channels fastest.
fn is_channels_last(map: &FlexTensor) -> bool {
    map.permute(&[0, 2, 3, 1]).is_contiguous()
}

/// How far apart an image's channels and its positions are.
#[derive(Clone, Copy)]
struct Strides {
    channel: usize,
    position: usize,
}

/// Values of each image and, where `WITH_GRADIENT`, their gradients in the map's own order; else an empty tensor.
fn run<T: Real, const WITH_GRADIENT: bool>(
    map: FlexTensor,
    images: FlexTensor,
    components: usize,
) -> (FlexTensor, FlexTensor) {
    let shape = map.shape();
    let [batch, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    assert_eq!(
        channels,
        10 * components,
        "channels of a mixture of three colours"
    );
    assert_eq!(
        images.shape().as_slice(),
        [batch, 3, height, width],
        "shape of the images"
    );
    let positions = height * width;
    let is_last = is_channels_last(&map);
    let strides = if is_last {
        Strides {
            channel: 1,
            position: channels,
        }
    } else {
        Strides {
            channel: positions,
            position: 1,
        }
    };
    // A slice of a batch is a view that shares the whole one's memory.
    let map = if is_last {
        map.permute(&[0, 2, 3, 1]).to_contiguous()
    } else {
        map.to_contiguous()
    };
    let images = images.to_contiguous();
    let (values, pixels) = (map.storage::<T>(), images.storage::<T>());
    let size = channels * positions;
    let mut gradient = vec![T::ZERO; if WITH_GRADIENT { values.len() } else { 0 }];

    let each = values
        .par_chunks(size)
        .zip(pixels.par_chunks(3 * positions));
    let nll: Vec<T> = if WITH_GRADIENT {
        let each = each.zip(gradient.par_chunks_mut(size));
        each.map(|((values, pixels), gradient)| {
            image::<T, true>(values, pixels, gradient, strides, components)
        })
        .collect()
    } else {
        each.map(|(values, pixels)| image::<T, false>(values, pixels, &mut [], strides, components))
            .collect()
    };
    let gradient = if is_last && WITH_GRADIENT {
        dense(gradient, &[batch, height, width, channels]).permute(&[0, 3, 1, 2])
    } else if WITH_GRADIENT {
        dense(gradient, &[batch, channels, height, width])
    } else {
        dense(gradient, &[0])
    };
    (dense(nll, &[batch]), gradient)
}

fn dense<T: Real>(values: Vec<T>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// One image's value; its gradient goes to `gradient`, in the order of `values`.
fn image<T: Real, const WITH_GRADIENT: bool>(
    values: &[T],
    pixels: &[T],
    gradient: &mut [T],
    strides: Strides,
    components: usize,
) -> T {
    let channels = 10 * components;
    let positions = values.len() / channels;
    let mut rows = vec![[T::ZERO; LANES]; channels];
    let mut joint = vec![[T::ZERO; LANES]; components];
    let mut known = Pixels::new();
    let mut total = 0.0;
    for start in (0..positions).step_by(LANES) {
        // At an image's end some lanes keep what they had.
        let lanes = LANES.min(positions - start);
        gather(values, &mut rows, start, lanes, strides);
        for colour in 0..3 {
            for lane in 0..lanes {
                known.set(colour, lane, pixels[colour * positions + start + lane]);
            }
        }
        let mut result = [T::ZERO; LANES];
        let of_rows = Rows {
            values: &mut rows,
            components,
        };
        evaluate::<T, WITH_GRADIENT>(of_rows, &known, &mut joint, &mut result);
        total -= result[..lanes]
            .iter()
            .map(|value| value.wide())
            .sum::<f64>();
        if WITH_GRADIENT {
            scatter(&rows, gradient, start, lanes, strides);
        }
    }
    T::from_f64(total)
}

/// The channels of `lanes` positions, one row a channel.
fn gather<T: Real>(
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
            for (row, value) in rows.iter_mut().zip(&values[from..]) {
                row[lane] = *value;
            }
        }
    }
}

/// The reverse of [`gather`].
fn scatter<T: Real>(
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
            for (row, value) in rows.iter().zip(&mut values[to..]) {
                *value = row[lane];
            }
        }
    }
}

fn scale_images<T: Real>(gradient: FlexTensor, factors: FlexTensor) -> FlexTensor {
    let factors = factors.to_contiguous();
    let factors = factors.storage::<T>();
    let is_last = is_channels_last(&gradient);
    let mut gradient = if is_last {
        let permuted = gradient.permute(&[0, 2, 3, 1]);
        drop(gradient);
        permuted
    } else {
        gradient.to_contiguous()
    };
    let size = gradient.shape().num_elements() / factors.len().max(1);
    let each = gradient
        .storage_mut::<T>()
        .par_chunks_mut(size.max(1))
        .zip(factors);
    each.for_each(|(values, factor)| {
        values
            .iter_mut()
            .for_each(|value| *value = *value * *factor);
    });
    if is_last {
        gradient.permute(&[0, 3, 1, 2])
    } else {
        gradient
    }
}

/// The backward step: the gradient is known already, but for each image's factor.
#[derive(Debug)]
struct Step;

impl<B: MixtureKernel> Backward<B, 1> for Step {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let factors = gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, B::scale_images(ops.state, factors));
        }
    }
}

impl<B: MixtureKernel, C: CheckpointStrategy> MixtureOps for Autodiff<B, C> {
    fn logistic_mixture_nll(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        components: usize,
    ) -> FloatTensor<Self> {
        let node = map.node();
        let (map, images) = (map.primitive().clone(), images.primitive().clone());
        match Backward::<B, 1>::prepare::<C>(Step, [node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (nll, gradient) = B::nll_with_gradient(map, images, components);
                prepared.finish(gradient, nll)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::logistic_mixture_nll(map, images, components))
            }
        }
    }
}
