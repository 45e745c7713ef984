//! A bottleneck between buffers: forward with the batch's statistics and backward, without Burn's tensors and graph.

use crate::blocks::bottleneck::Bottleneck;
use crate::operation::{Around, BlockConfig, Sizes};

use super::backward::GradientSlots;
use super::forward::{Device, Kept, Layer, Layers, SpatialLayer, infer_layers, train_layers};
use super::matrix::{Matrix, Storage, Vector32};
use super::norm::{Affine, Moments};
use super::pixels::converted;

/// A convolution's parameters and those of the norm behind it, float32.
#[derive(Clone)]
pub struct LayerParameters {
    /// In the convolution's own layout.
    pub weight: Vector32,
    /// The same values in the maps' type, where they are kept in it.
    pub narrow_weight: Option<Matrix>,
    /// `[channels]`
    pub bias: Vector32,
    /// `[channels]` each.
    pub affine: Affine,
}

/// A bottleneck whose parameters lie in buffers.
pub struct Block {
    config: BlockConfig,
    layers: Vec<LayerParameters>,
    gradients: Vec<GradientSlots>,
    moments: Vec<Moments>,
}

/// What a block keeps from its forward pass.
pub struct KeptBlock(Kept);

impl KeptBlock {
    /// The block's output, pixels by channels.
    pub fn output(&self) -> &Matrix {
        &self.0.output
    }

    /// Height and width of the output.
    pub fn size(&self) -> [usize; 2] {
        self.0.sizes.output
    }
}

impl Block {
    /// The block in the form of `block`, from the parameters of its layers (reduce, spatial, expand and, where there is a projection, shortcut), and where
    /// their gradients and the moments of their norms go; none where the kernels do not know its form.
    ///
    /// # Panics
    /// If there are more or fewer layers than the block has.
    pub fn new(
        block: &Bottleneck,
        layers: Vec<LayerParameters>,
        gradients: Vec<GradientSlots>,
        moments: Vec<Moments>,
    ) -> Option<Self> {
        let config = crate::dispatch::block_config(&block.layers())?;
        let expected = if config.around == Around::Projection {
            4
        } else {
            3
        };
        for found in [layers.len(), gradients.len(), moments.len()] {
            assert_eq!(found, expected, "layers of the block");
        }
        Some(Self {
            config,
            layers,
            gradients,
            moments,
        })
    }

    /// The type of its maps.
    pub fn storage(&self) -> Storage {
        Storage::of(self.config.precision)
    }

    fn layer(&self, device: &Device, index: usize, is_exchanged: bool) -> Layer {
        let LayerParameters {
            weight,
            narrow_weight,
            bias,
            affine,
        } = &self.layers[index];
        let channels_in = weight.len / bias.len;
        let rows = if is_exchanged { channels_in } else { bias.len };
        let given = narrow_weight.as_ref().map_or(
            Matrix {
                buffer: weight.buffer.clone(),
                rows,
                columns: weight.len / rows,
                storage: Storage::F32,
            },
            |narrow| Matrix {
                rows,
                columns: weight.len / rows,
                ..narrow.clone()
            },
        );
        Layer {
            weight: converted(&device.client, &given, self.storage()),
            is_exchanged,
            bias: bias.clone(),
            affine: affine.clone(),
        }
    }

    /// Applies the block with the batch's statistics to a map of images of `size`, pixels by channels in [`storage`](Self::storage).
    ///
    /// # Panics
    /// If the map has another number of rows or channels.
    pub fn forward(
        &self,
        device: &Device,
        input: Matrix,
        batch: usize,
        size: [usize; 2],
    ) -> KeptBlock {
        let (sizes, layers) = self.layers_for(device, &input, batch, size);
        let moments = Some(self.moments.as_slice());
        let (kept, _) = train_layers(self.config, device.clone(), sizes, layers, input, moments);
        KeptBlock(kept)
    }

    /// Applies the block with given statistics, of each norm, and keeps nothing: the output, and its height and width.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), or if there are fewer statistics than norms.
    pub fn infer(
        &self,
        device: &Device,
        input: Matrix,
        batch: usize,
        size: [usize; 2],
        running: &[Moments],
    ) -> (Matrix, [usize; 2]) {
        let (sizes, layers) = self.layers_for(device, &input, batch, size);
        let output = infer_layers(self.config, device.clone(), sizes, layers, input, running);
        (output, sizes.output)
    }

    fn layers_for(
        &self,
        device: &Device,
        input: &Matrix,
        batch: usize,
        size: [usize; 2],
    ) -> (Sizes, Layers) {
        let channels = |index: usize| self.layers[index].bias.len;
        let channels_in = self.layers[0].weight.len / channels(0);
        assert_eq!(
            (input.rows, input.columns),
            (batch * size[0] * size[1], channels_in),
            "the block's input"
        );
        let sizes = Sizes::of(
            &self.config,
            batch,
            channels_in,
            [channels(0), channels(2)],
            size,
        );
        let spatial = &self.layers[1];
        let is_exchanged = self.config.is_transposed;
        let layers = Layers {
            reduce: self.layer(device, 0, is_exchanged),
            spatial: SpatialLayer {
                weight: spatial.weight.clone(),
                bias: spatial.bias.clone(),
                affine: spatial.affine.clone(),
            },
            expand: self.layer(device, 2, false),
            shortcut: (self.layers.len() == 4).then(|| self.layer(device, 3, is_exchanged)),
        };
        (sizes, layers)
    }

    /// Writes the gradients of the parameters, and gives that of the input where it is wanted.
    pub fn backward(
        &self,
        kept: KeptBlock,
        gradient: &Matrix,
        is_input_wanted: bool,
    ) -> Option<Matrix> {
        kept.0
            .gradients(gradient, is_input_wanted, Some(&self.gradients))
            .0
    }
}
