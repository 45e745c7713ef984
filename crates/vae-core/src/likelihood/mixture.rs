//! Mixtures of discretised logistics whose means of green and blue depend on the colours before.
//!
//! Channels, as in PixelCNN++ and the peers after it: K mixture logits, then for each colour K means, K log-scales and K raw
//! coefficients; t = tanh(raw). In each component, with the image's own red and green,
//!
//! ```text
//! mean of red   = m_0
//! mean of green = m_1 + t_0 red
//! mean of blue  = m_2 + t_1 red + t_2 green
//! ```

use burn::prelude::*;
use burn::tensor::activation::{log_softmax, softmax};
use resnet_blocks::join;

use super::levels::{inverse_scale, levels, round_to_level, to_signed};
use super::logistic::{log_probability, quantile};
use super::reduction::per_image;

/// What a map holds, each `[batch, components, height, width]`; the coefficients already between -1 and 1.
struct MixtureParameters {
    logits: Tensor<4>,
    means: [Tensor<4>; 3],
    log_scales: [Tensor<4>; 3],
    coefficients: [Tensor<4>; 3],
}

impl MixtureParameters {
    fn of(map: Tensor<4>, components: usize) -> Self {
        let block = |index: usize| map.clone().narrow(1, index * components, components);
        let colour =
            |parameter: usize| std::array::from_fn(|colour| block(1 + 3 * colour + parameter));
        Self {
            logits: block(0),
            means: colour(0),
            log_scales: colour(1),
            coefficients: colour(2).map(Tensor::tanh),
        }
    }

    /// The components' means of the next colour, given those before; `before` are `[batch, 1 or components, height, width]`.
    fn mean(&self, before: &[Tensor<4>]) -> Tensor<4> {
        let of = |index: usize| self.coefficients[index].clone();
        match before {
            [] => self.means[0].clone(),
            [red] => self.means[1].clone() + of(0) * red.clone(),
            [red, green, ..] => self.means[2].clone() + of(1) * red.clone() + of(2) * green.clone(),
        }
    }
}

/// Negative log-probability of each image; `[batch]`.
pub(super) fn nll(map: Tensor<4>, images: Tensor<4>, components: usize) -> Tensor<1> {
    let parameters = MixtureParameters::of(map, components);
    let levels: [Tensor<4>; 3] =
        std::array::from_fn(|colour| levels(images.clone().narrow(1, colour, 1)));
    let signed = levels.clone().map(to_signed);
    let [batch, _, height, width] = parameters.logits.dims();
    let joint = (0..3).fold(
        log_softmax(parameters.logits.clone(), 1),
        |joint, colour| {
            let mean = parameters.mean(&signed[..colour]);
            let level = levels[colour]
                .clone()
                .expand([batch, components, height, width]);
            joint + log_probability(level, mean, parameters.log_scales[colour].clone())
        },
    );
    // The largest is subtracted as a constant: the derivative of the whole is the same.
    let largest = joint.clone().detach().max_dim(1);
    let mean = (joint - largest.clone()).exp().sum_dim(1).log() + largest;
    per_image(mean).neg()
}

/// Each component's means, carried on from colour to colour within \[-1, 1\], then averaged with the mixture's weights;
/// `[batch, 3, height, width]` on the scale from -1 to 1.
///
/// The exact mean would need a sum over all levels of red and green. This is within 12 levels of it on the golden values,
/// where averaging the parameters first is off by up to 26.
pub(super) fn mean_by_component(map: Tensor<4>, components: usize) -> Tensor<4> {
    let parameters = MixtureParameters::of(map, components);
    let weights = softmax(parameters.logits.clone(), 1);
    let mut colours: Vec<Tensor<4>> = Vec::new();
    for _ in 0..3 {
        colours.push(parameters.mean(&colours).clamp(-1.0, 1.0));
    }
    let averaged = colours
        .into_iter()
        .map(|colour| (weights.clone() * colour).sum_dim(1))
        .collect();
    join(averaged, 1)
}

/// Draws a component for each position, then red, green and blue, each rounded to its level before the next sees it: the
/// model was trained on levels. On the scale from -1 to 1; `[batch, 3, height, width]`
pub(super) fn sample(
    map: Tensor<4>,
    component_noise: Tensor<4>,
    pixel_noise: Tensor<4>,
    components: usize,
) -> Tensor<4> {
    let parameters = MixtureParameters::of(map, components);
    let gumbel = component_noise.log().neg().log().neg();
    let component = (parameters.logits.clone() + gumbel).argmax(1); // [batch, 1, height, width]
    let chosen = |values: Tensor<4>| values.gather(1, component.clone());
    let mut colours: Vec<Tensor<4>> = Vec::new();
    for colour in 0..3 {
        let before: Vec<Tensor<4>> = colours.clone();
        let mean = chosen(parameters.mean(&before));
        let scale = inverse_scale(chosen(parameters.log_scales[colour].clone())).recip();
        let noise = quantile(pixel_noise.clone().narrow(1, colour, 1));
        colours.push(round_to_level(mean + scale * noise));
    }
    join(colours, 1)
}
