//! The model that settings describe, with initial weights that depend on the seed alone.

use std::ops::{Deref, DerefMut};

use burn::prelude::*;
use resnet_blocks::{glorot_limit, map_named_parameters};
use vae_core::{
    Activation, Autoencoder, ConfigError, Cost, Depth, Likelihood, Precision, Sampler, Shortcuts,
    Vae, VaeConfig,
};

use crate::experiment::random::{Purpose, Stream};
use run_files::settings::{self, Settings};

/// A model of any family. What it does is [`Autoencoder`]'s; it derefs to one.
#[derive(Module, Debug)]
pub enum Model {
    /// Encoder and decoder are ResNets.
    ResNet(Vae),
}

/// What a model of any family is made from. What a family alone has is asked for here, with an answer of each.
#[derive(Clone, Debug)]
pub enum ModelConfig {
    /// Of [`Model::ResNet`].
    ResNet(VaeConfig),
}

impl Model {
    /// With the initial values of its layers, which depend on the device's own generator.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        match config {
            ModelConfig::ResNet(config) => Self::ResNet(config.init(device)),
        }
    }

    /// The ResNet, which a GPU's own step knows; none where the model is of another family.
    #[cfg(feature = "cube")]
    pub(crate) fn as_resnet(&self) -> Option<&Vae> {
        match self {
            Self::ResNet(model) => Some(model),
        }
    }
}

impl Deref for Model {
    type Target = dyn Autoencoder;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::ResNet(model) => model,
        }
    }
}

impl DerefMut for Model {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::ResNet(model) => model,
        }
    }
}

/// The configuration of the model.
///
/// # Errors
/// Where sizes do not fit together.
///
/// # Panics
/// If the settings were not validated and name a depth there is no preset for.
pub fn model_config(settings: &Settings) -> Result<ModelConfig, ConfigError> {
    let depth =
        Depth::from_layers(settings.depth).expect("validated settings name one of the presets");
    let config = VaeConfig::preset(depth)
        .with_stage_widths(settings.stage_widths())
        .with_intermediate_dim(settings.intermediate_dim)
        .with_latent_dim(settings.latent_dim)
        .with_activation(match settings.activation {
            settings::Activation::Sigmoid => Activation::Sigmoid,
            settings::Activation::Relu => Activation::Relu,
            settings::Activation::Tanh => Activation::Tanh,
            settings::Activation::Silu => Activation::Silu,
            settings::Activation::Gelu => Activation::Gelu,
        })
        .with_shortcuts(if settings.shortcuts {
            Shortcuts::Residual
        } else {
            Shortcuts::Plain
        })
        .with_precision(match settings.precision {
            settings::Precision::F32 => Precision::F32,
            settings::Precision::Bf16 => Precision::Bf16,
        })
        .with_likelihood(settings.likelihood);
    config.validate()?;
    Ok(ModelConfig::ResNet(config))
}

impl From<VaeConfig> for ModelConfig {
    fn from(config: VaeConfig) -> Self {
        Self::ResNet(config)
    }
}

impl ModelConfig {
    /// What one image costs.
    pub fn cost(&self) -> Cost {
        match self {
            Self::ResNet(config) => config.cost(),
        }
    }

    /// Parameters of encoder and decoder, the norms' running statistics among them.
    pub fn num_params_by_side(&self) -> [u64; 2] {
        match self {
            Self::ResNet(config) => config.num_params_by_side(),
        }
    }

    /// Parameters of both.
    pub fn num_params(&self) -> u64 {
        self.num_params_by_side().iter().sum()
    }

    /// Distribution of the pixels given the decoder's output.
    pub fn likelihood(&self) -> Likelihood {
        match self {
            Self::ResNet(config) => config.likelihood,
        }
    }

    /// Dimensions of the latent.
    pub fn latent_dim(&self) -> usize {
        match self {
            Self::ResNet(config) => config.latent_dim,
        }
    }

    /// An image, `[channels, height, width]`.
    pub fn image_shape(&self) -> [usize; 3] {
        match self {
            Self::ResNet(config) => [config.image_channels, config.image_size, config.image_size],
        }
    }

    /// Features that dropout acts on in the encoder and in the decoder, for each image.
    pub(crate) fn dropout_features(&self) -> [usize; 2] {
        match self {
            Self::ResNet(config) => {
                let decoder = config.intermediate_dim;
                [config.positions() * decoder, decoder]
            }
        }
    }

    /// For images of another height and width; a size of the model that has to divide by their positions, of which there are at most
    /// `positions` in its smallest map, is rounded up.
    ///
    /// # Errors
    /// Where the size does not fit the model.
    pub(crate) fn with_image_size(
        &self,
        size: usize,
        positions: usize,
    ) -> Result<Self, ConfigError> {
        match self {
            Self::ResNet(config) => {
                let intermediate = config.intermediate_dim.next_multiple_of(positions);
                let config = config
                    .clone()
                    .with_image_size(size)
                    .with_intermediate_dim(intermediate);
                config.validate()?;
                Ok(Self::ResNet(config))
            }
        }
    }

    /// Its layers, as depths are named.
    pub(crate) fn layers(&self) -> usize {
        match self {
            Self::ResNet(config) => config.layers(),
        }
    }

    /// The sizes that tell models of the family apart.
    pub(crate) fn sizes(&self) -> Vec<(&'static str, serde_json::Value)> {
        match self {
            Self::ResNet(config) => vec![
                ("stage_widths", config.stage_widths.to_vec().into()),
                ("intermediate_dim", config.intermediate_dim.into()),
                ("latent_dim", config.latent_dim.into()),
            ],
        }
    }

    /// Of the ResNet, whose blocks the prediction of memory and a GPU's own step know; none where the model is of another family.
    pub(crate) fn as_resnet(&self) -> Option<&VaeConfig> {
        match self {
            Self::ResNet(config) => Some(config),
        }
    }
}

/// The model with an encoder that gives every image the same posterior, for closed forms.
#[cfg(all(test, feature = "flex"))]
pub(crate) fn with_posterior(model: Model, mean: &[f32], log_variance: &[f32]) -> Model {
    use burn::module::Param;

    let Model::ResNet(mut model) = model;
    for (head, values) in [
        (&mut model.encoder.mean, mean),
        (&mut model.encoder.log_variance, log_variance),
    ] {
        let weight = head.weight.val();
        head.weight = Param::from_tensor(weight.zeros_like());
        head.bias = Some(Param::from_tensor(Tensor::from_floats(
            values,
            &weight.device(),
        )));
    }
    Model::ResNet(model)
}

/// The sampler of the settings.
pub fn sampler(settings: &Settings) -> Sampler {
    match settings.sampler {
        settings::Sampler::Correct => Sampler::Correct,
        settings::Sampler::Blog => Sampler::Blog,
    }
}

/// The model with Glorot-uniform weights drawn from the seed; biases and shifts 0, scales 1.
///
/// Equal seeds give equal weights on every device: Burn's own generators differ between backends.
pub fn initial_model(config: &ModelConfig, seed: u64, device: &Device) -> Model {
    let mut index = 0;
    map_named_parameters(Model::new(config, device), |_, shape| {
        index += 1;
        // Vectors are biases, scales, shifts and running statistics, whose constants stand already.
        if shape.len() < 2 {
            return None;
        }
        let limit = glorot_limit(shape) as f32;
        let count = shape.iter().product();
        let draws = Stream::new(seed, Purpose::InitialWeights, index).uniform(count);
        let values: Vec<f32> = draws
            .into_iter()
            .map(|draw| limit * (2.0 * draw - 1.0))
            .collect();
        Some(TensorData::new(values, shape.to_vec()))
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::weights::named_values;

    #[test]
    fn weights_depend_on_the_seed_alone_and_fill_glorots_interval() {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.0625)
            .with_latent_dim(8)
            .into();
        let values = |seed| named_values(&initial_model(&config, seed, &Device::flex()));
        let first = values(1);
        assert_eq!(first, values(1));
        assert_ne!(first, values(2));
        for (name, (shape, values)) in &first {
            let largest = values
                .iter()
                .fold(0.0f32, |largest, value| largest.max(value.abs()));
            if shape.len() >= 2 {
                let limit = glorot_limit(shape) as f32;
                assert!(largest <= limit, "{name}");
                assert!(
                    values.len() < 500 || largest > 0.95 * limit,
                    "{name}: {largest} of {limit}"
                );
            } else if name.ends_with("norm.weight") || name.ends_with("running_var") {
                assert!(values.iter().all(|value| *value == 1.0), "{name}");
            } else {
                assert_eq!(largest, 0.0, "{name}");
            }
        }
    }

    #[test]
    fn the_fast_presets_epochs_take_the_operations_that_it_states() {
        // Multiply-accumulates are two operations; backward takes twice as many as forward.
        let settings = Settings {
            depth: 28,
            ..Settings::default()
        };
        let cost = model_config(&settings).expect("the post's sizes").cost();
        let operations = 3 * 2 * cost.multiply_accumulates() * 50_000;
        assert_eq!(operations, 1_449_492_480_000_000);
    }
}
