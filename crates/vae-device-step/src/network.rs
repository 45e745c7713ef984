//! Encoder and decoder between the buffers: forward, loss and backward, in one place and in the order in which they run.

use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{
    Affine, Block, Buffer, Device, GradientSlots, KeptBlock, LayerParameters, Mask, Matrix,
    Moments, Queue, Statistics, Storage, Vector32, batch_statistics, column_sums, cubes,
    gradient_apply, gradient_sums, units,
};
use resnet_blocks::{Activation, Sampling, Stage};
use vae_core::Vae;
use vae_measures::Likelihood;

use crate::flat::{Flat, argument};
use crate::kernels::optimizer::RATES_KL_WEIGHT;
use crate::kernels::{UNITS, dense, latent, loss};

/// A dense layer and the norm behind it.
struct DenseNorm {
    parameters: LayerParameters,
    weight: Matrix,
    gradients: GradientSlots,
    moments: Moments,
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
    encoder: Vec<Block>,
    dense: DenseNorm,
    mean: Output,
    log_variance: Output,
    latent_dense: DenseNorm,
    decoder: Vec<Block>,
    /// The last 1x1 convolution; its weight is `[channels_in, channels_out]` where `is_output_exchanged`.
    output: Output,
    is_output_exchanged: bool,
    /// Height and width of the smallest map.
    pub(crate) grid: usize,
    pub(crate) image_channels: usize,
    pub(crate) latent_dim: usize,
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
    /// Cross-entropy of each image, KL divergence of each image, and what [`decide`](crate::kernels::optimizer::decide) adds.
    pub(crate) record: Handle,
}

impl Batch {
    fn mask(&self, side: usize) -> Option<&Handle> {
        self.masks.as_ref().map(|masks| &masks[side])
    }
}

/// What the dense layer of one side keeps.
struct KeptDense {
    input: Matrix,
    map: Matrix,
    statistics: Statistics,
    features: Matrix,
}

impl Network {
    /// None where the kernels do not know the model's form.
    pub(crate) fn new(model: &Vae, flat: &Flat) -> Option<Self> {
        let (encoder, decoder) = (&model.encoder, &model.decoder);
        let is_known = encoder.activation == decoder.activation
            && encoder.precision == decoder.precision
            && decoder.likelihood == Likelihood::Bernoulli
            && decoder.log_scale.is_none();
        if !is_known {
            return None;
        }
        let activation = match encoder.activation {
            Activation::Relu => dense::RELU,
            Activation::Sigmoid => dense::SIGMOID,
            Activation::Tanh => dense::TANH,
            Activation::Silu => dense::SILU,
            Activation::Gelu => return None,
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
            grid,
            image_channels: output_channels,
            latent_dim,
        })
    }

    /// Features of the encoder's and the decoder's dense layer for each image.
    pub(crate) fn features(&self) -> [usize; 2] {
        [self.mean.weight.rows, self.latent_dense.parameters.bias.len]
    }

    /// Writes each image's terms of the loss, the moments of every norm, and the gradients of the mean of the objective but for the penalties.
    pub(crate) fn forward_backward(
        &self,
        device: &Device,
        batch: &Batch,
        rates: &Handle,
        rates_len: usize,
        share: f32,
    ) {
        let queue = &device.client;
        let (kept_encoder, map, _) = forward(
            &self.encoder,
            device,
            batch.input.clone(),
            batch.len,
            batch.size,
        );
        let dense = self.dense_forward(device, &self.dense, map, batch.mask(0));
        let features = viewed(&dense.features, batch.len);
        let mean = product(device, &features, &self.mean.weight, Storage::F32);
        let log_variance = product(device, &features, &self.log_variance.weight, Storage::F32);
        let z = Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        self.draw(queue, batch, &mean, &log_variance, &z, share);

        let latent_dense = self.dense_forward(device, &self.latent_dense, z, batch.mask(1));
        let map = viewed(&latent_dense.features, batch.len * self.grid * self.grid);
        let (kept_decoder, map, _) = forward(&self.decoder, device, map, batch.len, [self.grid; 2]);
        let logits = Matrix::empty(queue, map.rows, self.image_channels, Storage::F32);
        let weight = self.output.weight.operand(!self.is_output_exchanged);
        device
            .products
            .multiply(queue, map.plain(), weight, &logits, false);
        let d_logits = self.loss(queue, batch, &logits);
        drop(logits);

        // Backward.
        column_sums(
            queue,
            &d_logits,
            None,
            None,
            Some(&self.output.bias_gradient),
        );
        let (left, right) = if self.is_output_exchanged {
            (&map, &d_logits)
        } else {
            (&d_logits, &map)
        };
        weight_gradient(device, left, right, &self.output);
        let d_map = Matrix::empty(queue, map.rows, map.columns, self.storage);
        let weight = self.output.weight.operand(self.is_output_exchanged);
        device
            .products
            .multiply(queue, d_logits.plain(), weight, &d_map, false);
        drop((map, d_logits));
        let d_map = backward(&self.decoder, kept_decoder, d_map, true).expect("it is wanted");
        let d_features = viewed(&d_map, batch.len);
        let (layer, mask) = (&self.latent_dense, batch.mask(1));
        let d_z = self.dense_backward(device, layer, latent_dense, &d_features, mask, Storage::F32);
        drop((d_map, d_features));

        let [d_mean, d_log_variance] = self.draw_gradient(
            queue,
            batch,
            [&mean, &log_variance, &d_z],
            rates,
            rates_len,
            share,
        );
        for (head, gradient) in [(&self.mean, &d_mean), (&self.log_variance, &d_log_variance)] {
            column_sums(queue, gradient, None, None, Some(&head.bias_gradient));
            weight_gradient(device, &features, gradient, head);
        }
        let d_features = Matrix::empty(queue, features.rows, features.columns, self.storage);
        let products = &device.products;
        let weight = self.mean.weight.transposed();
        products.multiply(queue, d_mean.plain(), weight, &d_features, false);
        let weight = self.log_variance.weight.transposed();
        products.multiply(queue, d_log_variance.plain(), weight, &d_features, true);
        drop(features);
        let d_features = viewed(&d_features, batch.len * self.grid * self.grid);
        let (layer, mask) = (&self.dense, batch.mask(0));
        let d_map = self.dense_backward(device, layer, dense, &d_features, mask, self.storage);
        drop(d_features);
        backward(&self.encoder, kept_encoder, d_map, false);
    }

    fn dense_forward(
        &self,
        device: &Device,
        layer: &DenseNorm,
        input: Matrix,
        mask: Option<&Handle>,
    ) -> KeptDense {
        let queue = &device.client;
        let map = product(device, &input, &layer.weight, self.storage);
        let into = Some(&layer.moments);
        let (statistics, _) = batch_statistics(queue, &map, 1, layer.epsilon, into);
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
        KeptDense {
            input,
            map,
            statistics,
            features,
        }
    }

    /// The gradient of the layer's input, of that storage.
    fn dense_backward(
        &self,
        device: &Device,
        layer: &DenseNorm,
        kept: KeptDense,
        gradient: &Matrix,
        mask: Option<&Handle>,
        storage: Storage,
    ) -> Matrix {
        let queue = &device.client;
        let KeptDense {
            input,
            map,
            statistics,
            ..
        } = kept;
        let affine = &layer.parameters.affine;
        let of_norm = Matrix::empty(queue, map.rows, map.columns, map.storage);
        let count = map.len();
        // SAFETY: as in `dense_forward`.
        unsafe {
            dense::activate_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                map.argument(),
                statistics.mean.argument(),
                statistics.inverse.argument(),
                affine.gamma.argument(),
                affine.beta.argument(),
                mask.map(|mask| argument(mask, count)).into(),
                gradient.argument(),
                of_norm.argument(),
                count,
                map.columns,
                self.activation,
                map.storage.elem(),
            );
        }
        let mask = Mask::None;
        let slot: Option<&Affine> = Some(&layer.gradients.affine);
        let sums = gradient_sums(queue, &map, mask, &of_norm, &statistics, affine, slot);
        let gradient = gradient_apply(
            queue,
            &map,
            mask,
            &of_norm,
            &statistics,
            affine,
            &sums,
            1,
            None,
            true,
        );
        drop(of_norm);
        let out = Matrix {
            buffer: layer.gradients.weight.buffer.clone(),
            rows: layer.weight.rows,
            columns: layer.weight.columns,
            storage: Storage::F32,
        };
        let products = &device.products;
        products.multiply(queue, input.transposed(), gradient.plain(), &out, false);
        let d_input = Matrix::empty(queue, input.rows, input.columns, storage);
        let weight = layer.weight.transposed();
        products.multiply(queue, gradient.plain(), weight, &d_input, false);
        d_input
    }

    fn draw(
        &self,
        queue: &Queue,
        batch: &Batch,
        mean: &Matrix,
        log_variance: &Matrix,
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
                self.mean.bias.argument(),
                self.log_variance.bias.argument(),
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

    fn draw_gradient(
        &self,
        queue: &Queue,
        batch: &Batch,
        [mean, log_variance, d_z]: [&Matrix; 3],
        rates: &Handle,
        rates_len: usize,
        share: f32,
    ) -> [Matrix; 2] {
        let count = d_z.len();
        let empty = || Matrix::empty(queue, batch.len, self.latent_dim, self.storage);
        let (d_mean, d_log_variance) = (empty(), empty());
        // SAFETY: one unit a value of each.
        unsafe {
            latent::draw_gradient::launch_unchecked(
                queue,
                cubes(count),
                units(),
                mean.argument(),
                log_variance.argument(),
                argument(&batch.noise, count),
                d_z.argument(),
                argument(rates, rates_len),
                d_mean.argument(),
                d_log_variance.argument(),
                count,
                share,
                1.0 / batch.len as f32,
                RATES_KL_WEIGHT,
                self.storage.elem(),
            );
        }
        [d_mean, d_log_variance]
    }

    fn loss(&self, queue: &Queue, batch: &Batch, logits: &Matrix) -> Matrix {
        let gradient = Matrix::empty(queue, logits.rows, logits.columns, self.storage);
        let values = logits.len() / batch.len;
        // SAFETY: a cube an image, bounded by its values.
        unsafe {
            loss::bernoulli::launch_unchecked(
                queue,
                CubeCount::Static(batch.len as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                logits.argument(),
                self.output.bias.argument(),
                batch.pixels.argument(),
                gradient.argument(),
                argument(&batch.record, record_len(batch.len)),
                values,
                self.image_channels,
                1.0 / batch.len as f32,
                self.storage.elem(),
            );
        }
        gradient
    }
}

/// Values of a step's record.
pub(crate) fn record_len(batch: usize) -> usize {
    2 * batch + crate::kernels::optimizer::RECORD_LEN
}

/// The blocks of all stages; none where one has no form that the kernels know.
fn blocks(stages: &[Stage], side: &str, flat: &Flat) -> Option<Vec<Block>> {
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
            all.push(Block::new(
                block,
                parameters.collect::<Option<_>>()?,
                gradients.collect::<Option<_>>()?,
                moments.collect::<Option<_>>()?,
            )?);
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

/// What the blocks keep, the last one's output, and its size.
fn forward(
    blocks: &[Block],
    device: &Device,
    mut map: Matrix,
    batch: usize,
    mut size: [usize; 2],
) -> (Vec<KeptBlock>, Matrix, [usize; 2]) {
    let mut kept = Vec::with_capacity(blocks.len());
    for block in blocks {
        let of_block = block.forward(device, map, batch, size);
        map = of_block.output().clone();
        size = of_block.size();
        kept.push(of_block);
    }
    (kept, map, size)
}

/// The gradient of the first block's input where it is wanted. Each block's maps are free for the next as soon as it is done.
fn backward(
    blocks: &[Block],
    kept: Vec<KeptBlock>,
    gradient: Matrix,
    is_input_wanted: bool,
) -> Option<Matrix> {
    let mut gradient = Some(gradient);
    for (index, (block, kept)) in blocks.iter().zip(kept).enumerate().rev() {
        let is_wanted = index > 0 || is_input_wanted;
        gradient = block.backward(kept, &gradient?, is_wanted);
    }
    gradient
}

/// `input * weight`.
fn product(device: &Device, input: &Matrix, weight: &Matrix, storage: Storage) -> Matrix {
    let out = Matrix::empty(&device.client, input.rows, weight.columns, storage);
    let products = &device.products;
    products.multiply(&device.client, input.plain(), weight.plain(), &out, false);
    out
}

/// `left^T * right` as the gradient of a layer's weight.
fn weight_gradient(device: &Device, left: &Matrix, right: &Matrix, layer: &Output) {
    let out = Matrix {
        buffer: layer.weight_gradient.buffer.clone(),
        rows: layer.weight.rows,
        columns: layer.weight.columns,
        storage: Storage::F32,
    };
    let products = &device.products;
    products.multiply(
        &device.client,
        left.transposed(),
        right.plain(),
        &out,
        false,
    );
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
