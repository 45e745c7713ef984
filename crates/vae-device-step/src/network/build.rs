//! A model's network of blocks and layers, as far as the kernels know its form.

use resnet_blocks::cube::{Block, Storage};
use resnet_blocks::{Activation, Sampling, Stage};
use vae_core::Vae;

use super::{BlockWithStatistics, DenseNorm, Network, Output, Pixels, Scales};
use crate::flat::Flat;
use crate::kernels::dense;

/// The name of the log-scales that a model has for each colour.
const LOG_SCALE: &str = "decoder.log_scale";

impl Network {
    /// None where the kernels do not know the model's form.
    pub(crate) fn new(model: &Vae, flat: &Flat, is_recomputed: bool) -> Option<Self> {
        let (encoder, decoder) = (&model.encoder, &model.decoder);
        let is_known =
            encoder.activation == decoder.activation && encoder.precision == decoder.precision;
        if !is_known {
            return None;
        }
        let activation = match encoder.activation {
            Activation::Relu => dense::RELU,
            Activation::Sigmoid => dense::SIGMOID,
            Activation::Tanh => dense::TANH,
            Activation::Silu => dense::SILU,
            Activation::Gelu => dense::GELU,
        };
        let storage = Storage::of(encoder.precision);
        let [channels, intermediate] = encoder.dense.weight.shape().dims();
        let [features, latent_dim] = encoder.mean.weight.shape().dims();
        let positions = features / intermediate;
        let grid = decoder.grid;
        // The decoder's grid is the encoder's: both have the same strides.
        if positions != grid * grid {
            return None;
        }
        let layer = &decoder.output;
        if layer.kernel_size != 1 || layer.stride != 1 {
            return None;
        }
        let is_output_exchanged = layer.sampling == Sampling::Transposed;
        let [rows, columns, _, _] = layer.weight.shape().dims();
        let [output_channels] = layer.bias.shape().dims();
        let of_colours = || {
            let log_scales = flat.parameter(&flat.weights, LOG_SCALE)?;
            Some((log_scales, flat.parameter(&flat.gradients, LOG_SCALE)?))
        };
        let pixels = Pixels::of(decoder.likelihood, of_colours)?;
        let image_channels = match &pixels {
            Pixels::Mixture { .. } => 3,
            Pixels::Values {
                scales: Scales::Map,
                ..
            } => output_channels / 2,
            Pixels::Values { .. } => output_channels,
        };
        debug_assert!(is_output_exchanged || rows == output_channels);
        debug_assert!(!is_output_exchanged || columns == output_channels);
        let encoder_blocks = blocks(&encoder.stages, "encoder", flat)?;
        let decoder_blocks = blocks(&decoder.stages, "decoder", flat)?;
        Some(Self {
            storage,
            activation,
            encoder: encoder_blocks,
            dense: dense_norm(flat, "encoder", channels, encoder.dense_norm.epsilon)?,
            mean: output(flat, "encoder.mean", features)?,
            log_variance: output(flat, "encoder.log_variance", features)?,
            latent_dense: dense_norm(flat, "decoder", latent_dim, decoder.dense_norm.epsilon)?,
            decoder: decoder_blocks,
            output: output(flat, "decoder.output", rows)?,
            is_output_exchanged,
            pixels,
            is_recomputed,
            grid,
            image_channels,
            latent_dim,
        })
    }
}

/// The blocks of all stages; none where one has no form that the kernels know.
fn blocks(stages: &[Stage], side: &str, flat: &Flat) -> Option<Vec<BlockWithStatistics>> {
    let mut all = Vec::new();
    for (at_stage, stage) in stages.iter().enumerate() {
        for (at, block) in stage.blocks.iter().enumerate() {
            let resnet_blocks::Block::Bottleneck(block) = block else {
                return None;
            };
            let name = format!("{side}.stages.{at_stage}.{at}");
            let mut layers = vec!["reduce", "spatial", "expand"];
            if flat
                .layout
                .slot(&format!("{name}.shortcut.weight"))
                .is_some()
            {
                layers.push("shortcut");
            }
            let named = |layer: &&str| (format!("{name}.{layer}"), format!("{name}.{layer}_norm"));
            let names: Vec<_> = layers.iter().map(named).collect();
            let parameters = names.iter().map(|(layer, norm)| flat.layer(layer, norm));
            let gradients = names
                .iter()
                .map(|(layer, norm)| flat.gradient_slots(layer, norm));
            let moments = names.iter().map(|(_, norm)| flat.moment_slots(norm));
            let running = names.iter().map(|(_, norm)| flat.running_slots(norm));
            all.push(BlockWithStatistics {
                block: Block::new(
                    block,
                    parameters.collect::<Option<_>>()?,
                    gradients.collect::<Option<_>>()?,
                    moments.collect::<Option<_>>()?,
                )?,
                running: running.collect::<Option<_>>()?,
            });
        }
    }
    Some(all)
}

fn dense_norm(flat: &Flat, side: &str, features_in: usize, epsilon: f64) -> Option<DenseNorm> {
    let (layer, norm) = (format!("{side}.dense"), format!("{side}.dense_norm"));
    Some(DenseNorm {
        parameters: flat.layer(&layer, &norm)?,
        // Burn keeps a dense layer's weight as `[in, out]`.
        weight: flat.weight_matrix(&format!("{layer}.weight"), features_in)?,
        gradients: flat.gradient_slots(&layer, &norm)?,
        moments: flat.moment_slots(&norm)?,
        running: flat.running_slots(&norm)?,
        epsilon: epsilon as f32,
    })
}

fn output(flat: &Flat, layer: &str, rows: usize) -> Option<Output> {
    let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
    Some(Output {
        weight: flat.weight_matrix(&weight, rows)?,
        bias: flat.parameter(&flat.weights, &bias)?,
        weight_gradient: flat.parameter(&flat.gradients, &weight)?,
        bias_gradient: flat.parameter(&flat.gradients, &bias)?,
    })
}
