//! The one pass as an operation of Burn: on flex itself, and on autodiff over flex with its own backward.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use vae_measures::Likelihood;

use super::one_pass::OnePass;
use super::values::{run, scale_images};

/// The negative log-probability of each image; none where the tensors are not on flex, or not of one type, or where the
/// likelihood has a plain form only.
///
/// # Shapes
/// - map: `[batch, map_channels, height, width]`
/// - images: `[batch, channels, height, width]`, in \[0, 1\]
/// - output: `[batch]`
pub(in crate::likelihood) fn nll(
    map: &Tensor<4>,
    images: &Tensor<4>,
    likelihood: Likelihood,
) -> Option<Tensor<1>> {
    let is_flex = |tensor: &Tensor<4>| {
        matches!(
            tensor.device().inner().as_dispatch(),
            DispatchDevice::Flex(_)
        )
    };
    let one_pass = one_pass(likelihood)?;
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
        Tensor::from_dispatch(Dispatch::pixel_nll(map, images, one_pass))
    })
}

fn one_pass(likelihood: Likelihood) -> Option<OnePass> {
    match likelihood {
        Likelihood::RenormalisedBernoulli => Some(OnePass::RenormalisedBernoulli),
        Likelihood::Logistic { .. } => Some(OnePass::Logistic),
        Likelihood::LogisticMixture { components } => Some(OnePass::LogisticMixture { components }),
        // The plain form serves.
        _ => None,
    }
}

/// The operation that tensors reach through dispatch.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait NllOps: Backend {
    /// Negative log-probability of each image.
    fn pixel_nll(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        likelihood: OnePass,
    ) -> FloatTensor<Self>;
}

/// What the backend under autodiff does.
pub(crate) trait NllKernel: NllOps {
    /// The negative log-probability of each image, and its gradient by the map.
    fn nll_with_gradient(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        likelihood: OnePass,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient with each image's share multiplied by that image's factor.
    fn scale_images(gradient: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl NllOps for Flex {
    fn pixel_nll(map: FlexTensor, images: FlexTensor, likelihood: OnePass) -> FlexTensor {
        match map.dtype() {
            DType::F64 => run::<f64, false>(map, images, likelihood).0,
            _ => run::<f32, false>(map, images, likelihood).0,
        }
    }
}

impl NllKernel for Flex {
    fn nll_with_gradient(
        map: FlexTensor,
        images: FlexTensor,
        likelihood: OnePass,
    ) -> (FlexTensor, FlexTensor) {
        match map.dtype() {
            DType::F64 => run::<f64, true>(map, images, likelihood),
            _ => run::<f32, true>(map, images, likelihood),
        }
    }

    fn scale_images(gradient: FlexTensor, factors: FlexTensor) -> FlexTensor {
        match gradient.dtype() {
            DType::F64 => scale_images::<f64>(gradient, factors),
            _ => scale_images::<f32>(gradient, factors),
        }
    }
}

/// The backward step: the gradient is known already, but for each image's factor.
#[derive(Debug)]
struct Step;

impl<B: NllKernel> Backward<B, 1> for Step {
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

impl<B: NllKernel, C: CheckpointStrategy> NllOps for Autodiff<B, C> {
    fn pixel_nll(
        map: FloatTensor<Self>,
        images: FloatTensor<Self>,
        likelihood: OnePass,
    ) -> FloatTensor<Self> {
        let node = map.node();
        let (map, images) = (map.primitive().clone(), images.primitive().clone());
        match Backward::<B, 1>::prepare::<C>(Step, [node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (nll, gradient) = B::nll_with_gradient(map, images, likelihood);
                prepared.finish(gradient, nll)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::pixel_nll(map, images, likelihood)),
        }
    }
}
