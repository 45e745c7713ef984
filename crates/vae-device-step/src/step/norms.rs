//! The norms of a model, by name, and what their statistics are taken over.

use burn::nn::BatchNorm;
use resnet_blocks::{Block, Sampling, Stage};
use vae_core::Vae;

/// A norm of the model, and what its statistics are taken over.
pub(super) struct Norm {
    pub(super) layer: String,
    pub(super) norm: String,
    pub(super) momentum: f64,
    /// Side of the map over that of the smallest one; none where it is one row an image.
    pub(super) scale: Option<usize>,
}

/// Every norm of the model; none where it has blocks that are no bottlenecks.
pub(super) fn norms(model: &Vae) -> Option<Vec<Norm>> {
    let mut all = Vec::new();
    let mut push = |layer: String, norm: &BatchNorm, scale| {
        all.push(Norm {
            norm: format!("{layer}_norm"),
            layer,
            momentum: norm.momentum,
            scale,
        });
    };
    let encoder = stage_norms(&model.encoder.stages, "encoder")?;
    let down: usize = encoder.iter().map(|block| block.stride).product();
    // A block's norms lie behind its stride.
    let mut scale = down;
    for block in encoder {
        scale /= block.stride;
        for (layer, norm) in block.norms {
            push(layer, norm, Some(scale));
        }
    }
    push(
        "encoder.dense".to_owned(),
        &model.encoder.dense_norm,
        Some(1),
    );
    push("decoder.dense".to_owned(), &model.decoder.dense_norm, None);
    let mut scale = 1;
    for block in stage_norms(&model.decoder.stages, "decoder")? {
        scale *= block.stride;
        for (layer, norm) in block.norms {
            push(layer, norm, Some(scale));
        }
    }
    Some(all)
}

struct BlockNorms<'a> {
    stride: usize,
    norms: Vec<(String, &'a BatchNorm)>,
}

fn stage_norms<'a>(stages: &'a [Stage], side: &str) -> Option<Vec<BlockNorms<'a>>> {
    let mut all = Vec::new();
    for (at_stage, stage) in stages.iter().enumerate() {
        for (at, block) in stage.blocks.iter().enumerate() {
            let Block::Bottleneck(block) = block else {
                return None;
            };
            let name = format!("{side}.stages.{at_stage}.{at}");
            let expected = match side {
                "encoder" => Sampling::Strided,
                _ => Sampling::Transposed,
            };
            if block.reduce.stride > 1 && block.reduce.sampling != expected {
                return None;
            }
            let mut norms = vec![
                (format!("{name}.reduce"), &block.reduce_norm),
                (format!("{name}.spatial"), &block.spatial_norm),
                (format!("{name}.expand"), &block.expand_norm),
            ];
            if let Some(projection) = &block.shortcut.projection {
                norms.push((format!("{name}.shortcut"), &projection.norm));
            }
            all.push(BlockNorms {
                stride: block.reduce.stride,
                norms,
            });
        }
    }
    Some(all)
}
