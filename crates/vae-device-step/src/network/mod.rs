//! Encoder and decoder between the buffers: the model, a batch, and the launches that training and evaluation share.

mod blocks;
mod build;
mod dense_layer;
mod evaluation;
mod likelihood;
mod posterior;
mod training;

use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, Block, Buffer, Device, GradientSlots, LayerParameters, Matrix, Moments, Queue,
    Statistics, Storage, Vector32, cubes, units,
};

use self::likelihood::{Given, Pixels, Scales};
pub use self::likelihood::{ImageLikelihood, image_likelihood};
use crate::flat::argument;
use crate::kernels::{UNITS, dense, latent};

/// A block and the running statistics of its norms.
struct BlockWithStatistics {
    block: Block,
    running: Vec<Moments>,
}

/// A dense layer and the norm behind it.
struct DenseNorm {
    parameters: LayerParameters,
    weight: Matrix,
    gradients: GradientSlots,
    moments: Moments,
    running: Moments,
    epsilon: f32,
}

/// A layer that no norm follows.
struct Output {
    weight: Matrix,
    bias: Vector32,
    weight_gradient: Vector32,
    bias_gradient: Vector32,
}

/// The model, its parameters in flat buffers.
pub(crate) struct Network {
    pub(crate) storage: Storage,
    /// Behind the norms of the dense layers.
    activation: u32,
    encoder: Vec<BlockWithStatistics>,
    dense: DenseNorm,
    mean: Output,
    log_variance: Output,
    latent_dense: DenseNorm,
    decoder: Vec<BlockWithStatistics>,
    /// The last 1x1 convolution; its weight is `[channels_in, channels_out]` where `is_output_exchanged`.
    output: Output,
    is_output_exchanged: bool,
    /// What the output's channels stand for.
    pixels: Pixels,
    /// Whether backward computes each block again, so that only its input is kept.
    is_recomputed: bool,
    /// Height and width of the smallest map.
    pub(crate) grid: usize,
    pub(crate) image_channels: usize,
    pub(crate) latent_dim: usize,
}

/// What the host decides about the objective, and what the objective knows of the KL divergence.
#[derive(Clone)]
pub(crate) struct Objective {
    /// Of [`RATES_LEN`](crate::kernels::optimizer::RATES_LEN) values.
    pub(crate) rates: Handle,
    /// Of [`STATE_LEN`](crate::kernels::optimizer::STATE_LEN) values, which outlive a step.
    pub(crate) state: Handle,
    /// Of each latent dimension: its divergence summed over the images, and what it counts.
    pub(crate) kl_sums: Handle,
    pub(crate) kl_slopes: Handle,
    /// Nats that every dimension may use for nothing.
    pub(crate) free_bits: Option<f32>,
    /// How much of the log-variance is in the draw's exponent.
    pub(crate) share: f32,
}

/// A batch's buffers, which stay where they are from step to step.
pub(crate) struct Batch {
    pub(crate) len: usize,
    /// Height and width of its images.
    pub(crate) size: [usize; 2],
    /// Pixels by channels, in the maps' type.
    pub(crate) input: Matrix,
    /// The same in float32, which the loss compares with.
    pub(crate) pixels: Matrix,
    /// `[batch, latent_dim]`
    pub(crate) noise: Handle,
    /// What multiplies the features of encoder and decoder.
    pub(crate) masks: Option<[Handle; 2]>,
    /// Cross-entropy (negative log-probability) of each image, KL divergence of each image, and what [`decide`](crate::kernels::optimizer::decide) adds.
    pub(crate) record: Handle,
}

/// Mean and log-variance of each image's posterior, in float32.
pub(crate) struct Posterior {
    pub(crate) mean: Matrix,
    pub(crate) log_variance: Matrix,
}

impl Posterior {
    pub(crate) fn empty(queue: &Queue, images: usize, latent_dim: usize) -> Self {
        let empty = || Matrix::empty(queue, images, latent_dim, Storage::F32);
        Self {
            mean: empty(),
            log_variance: empty(),
        }
    }
}

impl Batch {
    fn mask(&self, side: usize) -> Option<&Handle> {
        self.masks.as_ref().map(|masks| &masks[side])
    }
}

impl Network {
    /// Features of the encoder's and the decoder's dense layer for each image.
    pub(crate) fn features(&self) -> [usize; 2] {
        [self.mean.weight.rows, self.latent_dense.parameters.bias.len]
    }

    /// The product of a dense layer without its norm.
    fn dense_map(&self, device: &Device, layer: &DenseNorm, input: &Matrix) -> Matrix {
        product(device, input, &layer.weight, self.storage)
    }

    /// The features behind the norm and the activation of a dense layer's map.
    fn dense_features(
        &self,
        queue: &Queue,
        layer: &DenseNorm,
        map: &Matrix,
        statistics: &Statistics,
        mask: Option<&Handle>,
    ) -> Matrix {
        let Affine { gamma, beta } = &layer.parameters.affine;
        let features = Matrix::empty(queue, map.rows, map.columns, map.storage);
        let count = map.len();
        // SAFETY: one unit a value; the mask has one for each, the statistics one for each channel.
        unsafe {
            dense::activate::launch_unchecked(
                queue,
                cubes(count),
                units(),
                map.argument(),
                statistics.mean.argument(),
                statistics.inverse.argument(),
                gamma.argument(),
                beta.argument(),
                mask.map(|mask| argument(mask, count)).into(),
                features.argument(),
                count,
                map.columns,
                self.activation,
                map.storage.elem(),
            );
        }
        features
    }

    /// Adds the biases to the posterior, and draws from it.
    fn draw(
        &self,
        queue: &Queue,
        batch: &Batch,
        Posterior { mean, log_variance }: &Posterior,
        [mean_bias, log_variance_bias]: [&Vector32; 2],
        z: &Matrix,
        share: f32,
    ) {
        // SAFETY: a cube an image, bounded by the dimensions; the record has two terms for each image.
        unsafe {
            latent::draw::launch_unchecked(
                queue,
                CubeCount::Static(batch.len as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                mean.argument(),
                log_variance.argument(),
                mean_bias.argument(),
                log_variance_bias.argument(),
                argument(&batch.noise, z.len()),
                z.argument(),
                argument(&batch.record, record_len(batch.len)),
                batch.len,
                self.latent_dim,
                share,
                self.storage.elem(),
            );
        }
    }

    /// The images' cross-entropies or negative log-probabilities, and the gradient of their mean: by the map, and by the log-scales of colours at each
    /// pixel.
    fn loss(&self, queue: &Queue, batch: &Batch, map: &Matrix) -> (Matrix, Option<Matrix>) {
        let given = Given {
            map,
            bias: &self.output.bias,
            pixels: &batch.pixels,
            images: batch.len,
            colours: self.image_channels,
        };
        let record = || argument(&batch.record, record_len(batch.len));
        self.pixels.loss(queue, given, self.storage, record)
    }

    /// The map of the likelihood's parameters, from a decoder's last map, without the bias.
    fn output_map(&self, device: &Device, last: &Matrix) -> Matrix {
        let queue = &device.client;
        let map = Matrix::empty(queue, last.rows, self.output.bias.len, Storage::F32);
        let weight = self.output.weight.operand(!self.is_output_exchanged);
        device
            .products
            .multiply(queue, last.plain(), weight, &map, false);
        map
    }
}

/// Values of a step's record.
pub(crate) fn record_len(batch: usize) -> usize {
    2 * batch + crate::kernels::optimizer::RECORD_LEN
}

/// `input * weight`.
fn product(device: &Device, input: &Matrix, weight: &Matrix, storage: Storage) -> Matrix {
    let out = Matrix::empty(&device.client, input.rows, weight.columns, storage);
    let products = &device.products;
    products.multiply(&device.client, input.plain(), weight.plain(), &out, false);
    out
}

/// The same values in rows of another length.
fn viewed(matrix: &Matrix, rows: usize) -> Matrix {
    Matrix {
        buffer: Buffer::clone(&matrix.buffer),
        rows,
        columns: matrix.len() / rows,
        storage: matrix.storage,
    }
}
