//! What every form of a bottleneck's one operation shares: its configuration, the order of its tensors, and the sizes of its maps.

use burn::backend::TensorMetadata;

use crate::precision::Precision;

/// The path around a block's convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    Nothing,
    Identity,
    Projection,
}

/// What a bottleneck's parameters do not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConfig {
    pub(crate) stride: usize,
    pub(crate) is_transposed: bool,
    pub(crate) around: Around,
    /// Of the norms behind reduce, spatial, expand and shortcut.
    pub(crate) epsilon: [f64; 4],
    /// Type of every product, and on GPUs of the maps between them.
    #[cfg_attr(not(feature = "cube"), allow(dead_code))] // On flex there is one.
    pub(crate) precision: Precision,
}

/// Positions of a bottleneck's tensors among its inputs; the gradients have the same order. Every layer has four: weight,
/// bias, gamma, beta.
pub(crate) mod position {
    pub(crate) const INPUT: usize = 0;
    pub(crate) const REDUCE: usize = 1;
    pub(crate) const SPATIAL: usize = 5;
    pub(crate) const EXPAND: usize = 9;
    pub(crate) const SHORTCUT: usize = 13;
}

/// The sizes of a bottleneck's maps. The low resolution is that of the reduce product: the output's where the block is
/// strided, the input's where it is transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    #[cfg_attr(not(feature = "flex"), allow(dead_code))]
    pub(crate) channels_in: usize,
    pub(crate) width: usize,
    #[cfg_attr(not(feature = "flex"), allow(dead_code))]
    pub(crate) channels_out: usize,
    pub(crate) input: [usize; 2],
    pub(crate) low: [usize; 2],
    pub(crate) output: [usize; 2],
    /// Input pixels per low-resolution pixel in each direction.
    pub(crate) down: usize,
    /// Output pixels per low-resolution pixel in each direction.
    pub(crate) up: usize,
}

impl Sizes {
    /// The sizes of a block's maps from the tensors at [`position`].
    ///
    /// # Panics
    /// If the input is no batch of images, or has another number of channels than the block takes.
    pub(crate) fn new(config: &BlockConfig, inputs: &[impl TensorMetadata]) -> Self {
        let [batch, channels_in, height, width] = image_dims(&inputs[position::INPUT]);
        let channels = |at: usize| inputs[at + 1].shape().num_elements();
        let weight = image_dims(&inputs[position::REDUCE]);
        let weight_in = if config.is_transposed {
            weight[0]
        } else {
            weight[1]
        };
        assert_eq!(
            weight_in, channels_in,
            "the block takes {weight_in} channels, not {channels_in}"
        );
        let channels = [channels(position::REDUCE), channels(position::EXPAND)];
        Self::of(config, batch, channels_in, channels, [height, width])
    }

    /// Those of a block of `[width, channels_out]` channels on images of a size.
    pub(crate) fn of(
        config: &BlockConfig,
        batch: usize,
        channels_in: usize,
        [width, channels_out]: [usize; 2],
        input: [usize; 2],
    ) -> Self {
        let (down, up) = if config.is_transposed {
            (1, config.stride)
        } else {
            (config.stride, 1)
        };
        let low = input.map(|length| length.div_ceil(down));
        Self {
            batch,
            channels_in,
            width,
            channels_out,
            input,
            low,
            output: low.map(|length| length * up),
            down,
            up,
        }
    }
}

/// The four dimensions of an image tensor.
///
/// # Panics
/// If it has another number of axes.
pub(crate) fn image_dims(tensor: &impl TensorMetadata) -> [usize; 4] {
    let shape = tensor.shape();
    assert_eq!(
        shape.num_dims(),
        4,
        "an image batch has four axes, not {shape:?}"
    );
    [shape[0], shape[1], shape[2], shape[3]]
}
