//! What a model costs, from its configuration alone.

use crate::config::{STRIDES, VaeConfig};

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
        let image = (self.image_channels * self.image_size * self.image_size) as u64;
        let last = 4 * self.stage_widths[3] as u64;

        let encoder = self.stages_cost(self.image_channels, self.image_size, false);
        let decoder = self.stages_cost(self.intermediate_dim / self.positions(), self.grid(), true);
        Cost {
            encoder_multiply_accumulates: encoder.0
                + positions * last * intermediate
                + 2 * positions * intermediate * latent,
            decoder_multiply_accumulates: decoder.0 + latent * intermediate + image * last,
            activations: encoder.1
                + decoder.1
                + (positions + 1) * intermediate
                + 2 * latent
                + image,
        }
    }

    /// Parameters of the whole model, the norms' running statistics among them: what the model's own count gives,
    /// without making one.
    pub fn num_params(&self) -> u64 {
        let intermediate = self.intermediate_dim as u64;
        let latent = self.latent_dim as u64;
        let positions = self.positions() as u64;
        let last = 4 * self.stage_widths[3] as u64;
        // Every convolution and dense layer has a bias; a norm has a scale, a shift, a mean and a variance.
        let layer = |inputs: u64, outputs: u64| inputs * outputs + outputs;
        let encoder = self.stages_num_params(self.image_channels as u64)
            + layer(last, intermediate)
            + 4 * intermediate
            + 2 * layer(positions * intermediate, latent);
        let decoder = layer(latent, intermediate)
            + 4 * intermediate
            + self.stages_num_params(intermediate / positions)
            + layer(last, self.image_channels as u64);
        encoder + decoder
    }

    /// Parameters of one side's stages.
    fn stages_num_params(&self, mut channels: u64) -> u64 {
        let convolution = |inputs: u64, outputs: u64, kernel: u64| {
            kernel * kernel * inputs * outputs + outputs + 4 * outputs
        };
        let mut parameters = 0;
        for ((width, identity_blocks), stride) in self
            .stage_widths
            .iter()
            .zip(self.identity_blocks)
            .zip(STRIDES)
        {
            let width = *width as u64;
            for block in 0..=identity_blocks {
                let stride = if block == 0 { stride } else { 1 };
                parameters += convolution(channels, width, 1)
                    + convolution(width, width, 3)
                    + convolution(width, 4 * width, 1);
                let projects = stride != 1 || channels != 4 * width;
                if projects && self.shortcuts == resnet_blocks::Shortcuts::Residual {
                    parameters += convolution(channels, 4 * width, 1);
                }
                channels = 4 * width;
            }
        }
        parameters
    }

    /// Multiply-accumulates and activations of one side's stages.
    fn stages_cost(&self, channels_in: usize, size: usize, transposed: bool) -> (u64, u64) {
        let (mut multiply_accumulates, mut activations) = (0, 0);
        let (mut channels, mut size) = (channels_in as u64, size as u64);
        for ((width, identity_blocks), stride) in self
            .stage_widths
            .iter()
            .zip(self.identity_blocks)
            .zip(STRIDES)
        {
            let (width, stride) = (*width as u64, stride as u64);
            for block in 0..=identity_blocks {
                let stride = if block == 0 { stride } else { 1 };
                let size_out = if transposed {
                    size * stride
                } else {
                    size / stride
                };
                // A 1x1 convolution with a stride works at the lower of the two resolutions.
                let lower = size.min(size_out).pow(2);
                let pixels = size_out.pow(2);
                multiply_accumulates += lower * channels * width
                    + pixels * 9 * width * width
                    + pixels * width * 4 * width;
                // Three convolutions, and the block's output.
                activations += pixels * (width + width + 4 * width + 4 * width);
                let projects = stride != 1 || channels != 4 * width;
                if projects && self.shortcuts == resnet_blocks::Shortcuts::Residual {
                    multiply_accumulates += lower * channels * 4 * width;
                    activations += pixels * 4 * width;
                }
                (channels, size) = (4 * width, size_out);
            }
        }
        (multiply_accumulates, activations)
    }
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
