//! The blocks of one side in training, forward and backward.

use resnet_blocks::cube::{Device, KeptBlock, Matrix};

use super::BlockWithStatistics;

/// What a block keeps for backward: everything, or its input and that one's size.
pub(super) enum Kept {
    All(Box<KeptBlock>),
    Input(Matrix, [usize; 2]),
}

/// What the blocks keep, and the last one's output.
pub(super) fn forward(
    blocks: &[BlockWithStatistics],
    device: &Device,
    mut map: Matrix,
    (batch, mut size): (usize, [usize; 2]),
    keeps_inputs: bool,
) -> (Vec<Kept>, Matrix) {
    let mut kept = Vec::with_capacity(blocks.len());
    for BlockWithStatistics { block, .. } in blocks {
        let input = (map.clone(), size);
        let of_block = block.forward(device, map, batch, size);
        map = of_block.output().clone();
        size = of_block.size();
        kept.push(if keeps_inputs {
            Kept::Input(input.0, input.1)
        } else {
            Kept::All(Box::new(of_block))
        });
    }
    (kept, map)
}

/// The gradient of the first block's input where it is wanted. Each block's maps are free for the next as soon as it is done.
pub(super) fn backward(
    blocks: &[BlockWithStatistics],
    kept: Vec<Kept>,
    (device, batch): (&Device, usize),
    gradient: Matrix,
    is_input_wanted: bool,
) -> Option<Matrix> {
    let mut gradient = Some(gradient);
    for (index, (BlockWithStatistics { block, .. }, kept)) in
        blocks.iter().zip(kept).enumerate().rev()
    {
        let kept = match kept {
            Kept::All(kept) => *kept,
            // The same kernels with the same numbers, which the moments get once more.
            Kept::Input(input, size) => block.forward(device, input, batch, size),
        };
        let is_wanted = index > 0 || is_input_wanted;
        gradient = block.backward(kept, &gradient?, is_wanted);
    }
    gradient
}
