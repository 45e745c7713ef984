//! What a model costs, from its configuration alone.

use crate::block_shape::BlockShape;
use crate::config::VaeConfig;

/// Arithmetic and memory of one image through encoder and decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of all convolutions and dense layers of the encoder, a transposed 1x1 convolution counted at
    /// its input's resolution.
    pub encoder_multiply_accumulates: u64,
    /// The same of the decoder.
    pub decoder_multiply_accumulates: u64,
    /// Values at the output of every convolution, dense layer and block: what plain layers keep for the backward pass.
    pub activations: u64,
}

impl Cost {
    /// Of encoder and decoder.
    pub fn multiply_accumulates(&self) -> u64 {
        self.encoder_multiply_accumulates + self.decoder_multiply_accumulates
    }
}

impl VaeConfig {
    /// What one image costs.
    pub fn cost(&self) -> Cost {
        let positions = self.positions() as u64;
        let intermediate = self.intermediate_dim as u64;
        let latent = self.latent_dim as u64;
        let channels_out = self.likelihood.decoder_channels(self.image_channels);
        let output = (channels_out * self.image_size * self.image_size) as u64;
        let last = 4 * self.stage_widths[3] as u64;

        let [encoder, decoder] = self.block_shapes();
        let (encoder, decoder) = (stages_cost(&encoder), stages_cost(&decoder));
        Cost {
            encoder_multiply_accumulates: encoder.0
                + positions * last * intermediate
                + 2 * positions * intermediate * latent,
            decoder_multiply_accumulates: decoder.0 + latent * intermediate + output * last,
            activations: encoder.1
                + decoder.1
                + (positions + 1) * intermediate
                + 2 * latent
                + output,
        }
    }

    /// Parameters of the whole model, the norms' running statistics among them: what the model's own count gives,
    /// without making one.
    pub fn num_params(&self) -> u64 {
        self.num_params_by_side().iter().sum()
    }

    /// Parameters of the encoder and of the decoder, as [`num_params`](Self::num_params).
    pub fn num_params_by_side(&self) -> [u64; 2] {
        let intermediate = self.intermediate_dim as u64;
        let latent = self.latent_dim as u64;
        let positions = self.positions() as u64;
        let last = 4 * self.stage_widths[3] as u64;
        // Every convolution and dense layer has a bias; a norm has a scale, a shift, a mean and a variance.
        let layer = |inputs: u64, outputs: u64| inputs * outputs + outputs;
        let [encoder_blocks, decoder_blocks] = self.block_shapes();
        let encoder = stages_num_params(&encoder_blocks)
            + layer(last, intermediate)
            + 4 * intermediate
            + 2 * layer(positions * intermediate, latent);
        let decoder = layer(latent, intermediate)
            + 4 * intermediate
            + stages_num_params(&decoder_blocks)
            + layer(
                last,
                self.likelihood.decoder_channels(self.image_channels) as u64,
            )
            + if self.likelihood.has_global_scale() {
                self.image_channels as u64
            } else {
                0
            };
        [encoder, decoder]
    }
}

/// Parameters of one side's stages.
fn stages_num_params(blocks: &[BlockShape]) -> u64 {
    let convolution = |inputs: usize, outputs: usize, kernel: usize| {
        (kernel * kernel * inputs * outputs + outputs + 4 * outputs) as u64
    };
    let of_block = |block: &BlockShape| {
        let around = if block.projects {
            convolution(block.channels_in, block.channels_out, 1)
        } else {
            0
        };
        convolution(block.channels_in, block.width, 1)
            + convolution(block.width, block.width, 3)
            + convolution(block.width, block.channels_out, 1)
            + around
    };
    blocks.iter().map(of_block).sum()
}

/// Multiply-accumulates and activations of one side's stages.
fn stages_cost(blocks: &[BlockShape]) -> (u64, u64) {
    let (mut multiply_accumulates, mut activations) = (0, 0);
    for block in blocks {
        let (low, pixels) = (block.pixels_low() as u64, block.pixels_out() as u64);
        let channels_in = block.channels_in as u64;
        let (width, channels_out) = (block.width as u64, block.channels_out as u64);
        // A 1x1 convolution with a stride works at the lower of the two resolutions.
        multiply_accumulates +=
            low * channels_in * width + pixels * 9 * width * width + pixels * width * channels_out;
        // Three convolutions, and the block's output.
        activations += pixels * (2 * width + 2 * channels_out);
        if block.projects {
            multiply_accumulates += low * channels_in * channels_out;
            activations += pixels * channels_out;
        }
    }
    (multiply_accumulates, activations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Depth;

    #[test]
    fn depth_28_at_full_width_costs_4832_million_multiply_accumulates() {
        let cost = VaeConfig::preset(Depth::Depth28).cost();
        assert_eq!(cost.multiply_accumulates(), 4_831_641_600);
        assert_eq!(cost.encoder_multiply_accumulates, 386_859_008);
    }

    #[test]
    fn counted_parameters_are_those_of_the_experiment() {
        let counts = Depth::ALL.map(|depth| VaeConfig::preset(depth).num_params());
        assert_eq!(counts, [26_815_683, 29_624_003, 43_762_627, 57_901_251]);
        let sides = VaeConfig::preset(Depth::Depth28).num_params_by_side();
        assert_eq!(sides, [18_507_072, 8_308_611]);
    }

    #[test]
    fn deeper_costs_more_and_plain_costs_less() {
        let costs: Vec<u64> = Depth::ALL
            .map(|depth| VaeConfig::preset(depth).cost().multiply_accumulates())
            .to_vec();
        assert!(costs.is_sorted() && costs[0] < costs[3]);
        let plain = VaeConfig::preset(Depth::Depth28).with_shortcuts(crate::Shortcuts::Plain);
        assert!(plain.cost().multiply_accumulates() < costs[0]);
    }
}
