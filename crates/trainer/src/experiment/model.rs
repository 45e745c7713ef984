//! The model that settings describe, with initial weights that depend on the seed alone.

use std::ops::{Deref, DerefMut};

use burn::prelude::*;
use resnet_blocks::{glorot_limit, map_named_parameters};
use vae_core::{
    Activation, Autoencoder, ConfigError, Cost, Depth, Precision, Sampler, Shortcuts, Vae,
    VaeConfig,
};

use crate::experiment::random::{Purpose, Stream};
use run_files::settings::{self, Settings};

/// A model of any family. What it does is [`Autoencoder`]'s; it derefs to one.
#[derive(Module, Debug)]
pub enum Model {
    /// Encoder and decoder are ResNets.
    ResNet(Vae),
}

impl Model {
    /// With the initial values of its layers, which depend on the device's own generator.
    pub fn new(config: &VaeConfig, device: &Device) -> Self {
        Self::ResNet(config.init(device))
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
pub fn model_config(settings: &Settings) -> Result<VaeConfig, ConfigError> {
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
    Ok(config)
}

/// What one image costs the model. Families are told apart here, and each file of `vae-core` says what its own family costs.
pub(crate) fn image_cost(config: &VaeConfig) -> Cost {
    config.cost()
}

/// Parameters of the model's encoder and decoder, the norms' running statistics among them.
pub(crate) fn num_params_by_side(config: &VaeConfig) -> [u64; 2] {
    config.num_params_by_side()
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
pub fn initial_model(config: &VaeConfig, seed: u64, device: &Device) -> Model {
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
            .with_latent_dim(8);
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
        let cost = image_cost(&model_config(&settings).expect("the post's sizes"));
        let operations = 3 * 2 * cost.multiply_accumulates() * 50_000;
        assert_eq!(operations, 1_449_492_480_000_000);
    }
}
