//! Configuration of encoder, decoder and the whole autoencoder.

use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use resnet_blocks::{
    Activation, ConvolutionConfig, NormConfig, Precision, Sampling, Shortcuts, Stage, StageConfig,
    glorot_uniform,
};

use crate::decoder::Decoder;
use crate::depth::Depth;
use crate::encoder::Encoder;
use crate::vae::Vae;
use vae_measures::Likelihood;

mod validation;

pub use validation::ConfigError;

/// Stride of the first block of each stage, on both sides.
pub(crate) const STRIDES: [usize; 4] = [1, 2, 2, 2];

/// Configuration of a [`Vae`], an [`Encoder`] or a [`Decoder`].
#[derive(Config, Debug)]
pub struct VaeConfig {
    /// Blocks after the first of each stage, on both sides; see [`Depth::identity_blocks`].
    pub identity_blocks: [usize; 4],
    /// Bottleneck width of each stage; its output has four times as many channels.
    #[config(default = "[64, 128, 256, 512]")]
    pub stage_widths: [usize; 4],
    /// Features of the two dense layers; a multiple of the number of positions of the smallest map (16).
    #[config(default = 1024)]
    pub intermediate_dim: usize,
    /// Dimensions of the latent.
    #[config(default = 256)]
    pub latent_dim: usize,
    /// Channels of an image. Default: 3.
    #[config(default = 3)]
    pub image_channels: usize,
    /// Height and width of an image, in pixels; a multiple of 8. Default: 32.
    #[config(default = 32)]
    pub image_size: usize,
    /// After the two dense norms. Blocks always use ReLU. Default: sigmoid.
    #[config(default = "Activation::Sigmoid")]
    pub activation: Activation,
    /// With or without shortcuts. Default: with.
    #[config(default = "Shortcuts::Residual")]
    pub shortcuts: Shortcuts,
    /// Distribution of the pixels given the decoder's output. Default: Bernoulli.
    #[config(default = "Likelihood::Bernoulli")]
    pub likelihood: Likelihood,
    /// Epsilon and momentum of every norm.
    #[config(default = "NormConfig::new()")]
    pub norm: NormConfig,
    /// Type in which every convolution and dense layer is computed. Norms, losses and parameters keep theirs. Default: that
    /// of the parameters.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
}

impl VaeConfig {
    /// The experiment's model at one of its depths.
    pub fn preset(depth: Depth) -> Self {
        Self::new(depth.identity_blocks())
    }

    /// Scales the stage widths (rounded, at least 1) and the intermediate dimension (rounded to a multiple, at least one,
    /// of the positions of the smallest map: 16 for images of 32 pixels; set `image_size` before).
    ///
    /// # Panics
    /// If `multiplier` is not positive and finite.
    pub fn with_width_multiplier(mut self, multiplier: f64) -> Self {
        assert!(
            multiplier.is_finite() && multiplier > 0.0,
            "a width multiplier is positive, not {multiplier}"
        );
        let scaled = |size: usize, unit: usize| {
            let units = (size as f64 * multiplier / unit as f64).round() as usize;
            units.max(1) * unit
        };
        self.stage_widths = self.stage_widths.map(|width| scaled(width, 1));
        self.intermediate_dim = scaled(self.intermediate_dim, self.positions().max(1));
        self
    }

    /// Layers by the experiment's count; see [`Depth`].
    pub fn layers(&self) -> usize {
        6 * (4 + self.identity_blocks.iter().sum::<usize>()) + 4
    }

    /// Height and width of the smallest map.
    pub(crate) fn grid(&self) -> usize {
        self.image_size / STRIDES.iter().product::<usize>()
    }

    /// Positions of the smallest map.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Creates encoder and decoder with Glorot-uniform weights and zero biases.
    ///
    /// # Panics
    /// Where [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> Vae {
        Vae {
            encoder: self.init_encoder(device),
            decoder: self.init_decoder(device),
            largest_map: self.largest_map(),
        }
    }

    /// Creates an encoder alone.
    ///
    /// # Panics
    /// Where [`validate`](Self::validate) fails.
    pub fn init_encoder(&self, device: &Device) -> Encoder {
        self.assert_valid();
        let (stages, channels) = self.stages(self.image_channels, Sampling::Strided, device);
        let features = self.positions() * self.intermediate_dim;
        Encoder {
            stages,
            dense: dense(channels, self.intermediate_dim, device),
            dense_norm: self.norm.init(self.intermediate_dim, device),
            mean: dense(features, self.latent_dim, device),
            log_variance: dense(features, self.latent_dim, device),
            activation: self.activation,
            precision: self.precision,
        }
    }

    /// Creates a decoder alone: the generator.
    ///
    /// # Panics
    /// Where [`validate`](Self::validate) fails.
    pub fn init_decoder(&self, device: &Device) -> Decoder {
        self.assert_valid();
        let channels_in = self.intermediate_dim / self.positions();
        let (stages, channels) = self.stages(channels_in, Sampling::Transposed, device);
        let channels_out = self.likelihood.decoder_channels(self.image_channels);
        let mut output = ConvolutionConfig::new(channels, channels_out)
            .with_sampling(Sampling::Transposed)
            .with_precision(self.precision)
            .init(device);
        if let Some(biases) = self.likelihood.initial_biases(self.image_channels) {
            output.bias = Param::from_tensor(Tensor::from_floats(biases.as_slice(), device));
        }
        let log_scale = self.likelihood.initial_global_log_scale().map(|log_scale| {
            Param::from_tensor(Tensor::full([self.image_channels], log_scale, device))
        });
        Decoder {
            dense: dense(self.latent_dim, self.intermediate_dim, device),
            dense_norm: self.norm.init(self.intermediate_dim, device),
            stages,
            output,
            log_scale,
            likelihood: self.likelihood,
            activation: self.activation,
            precision: self.precision,
            grid: self.grid(),
        }
    }

    fn stages(
        &self,
        channels_in: usize,
        sampling: Sampling,
        device: &Device,
    ) -> (Vec<Stage>, usize) {
        let mut channels = channels_in;
        let stages = (0..4)
            .map(|index| {
                let config = StageConfig::new(
                    channels,
                    self.stage_widths[index],
                    self.identity_blocks[index],
                )
                .with_stride(STRIDES[index])
                .with_sampling(sampling)
                .with_shortcuts(self.shortcuts)
                .with_norm(self.norm.clone())
                .with_precision(self.precision);
                channels = config.channels_out();
                config.init(device)
            })
            .collect();
        (stages, channels)
    }

    fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
    }
}

/// A dense layer with Glorot-uniform weights and zero bias.
fn dense(features_in: usize, features_out: usize, device: &Device) -> Linear {
    let mut layer = LinearConfig::new(features_in, features_out)
        .with_bias(false)
        .init(device);
    layer.weight = glorot_uniform([features_in, features_out], device);
    layer.bias = Some(Param::from_tensor(Tensor::zeros([features_out], device)));
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_experiment() {
        let table = [
            (Depth::Depth28, 18_507_072, 8_308_611, 26_815_683),
            (Depth::Depth40, 19_911_232, 9_712_771, 29_624_003),
            (Depth::Depth70, 26_980_544, 16_782_083, 43_762_627),
            (Depth::Depth100, 34_049_856, 23_851_395, 57_901_251),
        ];
        for (depth, encoder, decoder, total) in table {
            let vae = VaeConfig::preset(depth).init(&Device::flex());
            assert_eq!(vae.encoder.num_params(), encoder, "{depth:?}");
            assert_eq!(vae.decoder.num_params(), decoder, "{depth:?}");
            assert_eq!(vae.num_params(), total, "{depth:?}");
        }
    }

    #[test]
    fn the_width_multiplier_rounds_and_never_reaches_zero() {
        let eighth = VaeConfig::preset(Depth::Depth28).with_width_multiplier(0.125);
        assert_eq!(
            (eighth.stage_widths, eighth.intermediate_dim),
            ([8, 16, 32, 64], 128)
        );
        let tiny = VaeConfig::preset(Depth::Depth28).with_width_multiplier(0.001);
        assert_eq!(
            (tiny.stage_widths, tiny.intermediate_dim),
            ([1, 1, 1, 1], 16)
        );
        let third = VaeConfig::preset(Depth::Depth28).with_width_multiplier(0.3);
        assert_eq!(
            (third.stage_widths, third.intermediate_dim),
            ([19, 38, 77, 154], 304)
        );
    }

    #[test]
    fn a_width_for_images_of_another_size_fits_them() {
        for size in [24, 40, 64] {
            let config = VaeConfig::preset(Depth::Depth28).with_image_size(size);
            let narrow = config.with_width_multiplier(0.1);
            assert_eq!(narrow.validate(), Ok(()), "{size} pixels");
        }
    }
}
