//! A batch of images from those that lie on the device.

use cubecl::prelude::*;

/// Numbers of a [`Pick`](crate::Pick) on the device: the image, and where its pixels come from.
pub(crate) const PICK_NUMBERS: usize = 2;
/// What is added to a pick's shifts, so that none is negative.
pub(crate) const SHIFT: usize = 128;
/// The levels of a byte.
pub(crate) const LEVELS: usize = 256;

/// Writes a batch's pixels, channels last, in float32 and in the maps' type. `words` has four bytes each, the lowest first, of images with channels first;
/// `levels` the value of each byte, so that nothing is divided here. Black is what a shift brings in. One unit a value.
#[cube(launch_unchecked)]
pub(crate) fn take_images<F: Float>(
    words: &[u32],
    levels: &[f32],
    picks: &[u32],
    pixels: &mut [f32],
    input: &mut [F],
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[define(F)] _elem: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let pixel = ABSOLUTE_POS / channels;
    let column = pixel % width;
    let row = (pixel / width) % height;
    let image = pixel / width / height;
    let source = picks[PICK_NUMBERS * image] as usize;
    let drawn = picks[PICK_NUMBERS * image + 1];
    let row = row + ((drawn >> 8u32) & 255u32) as usize;
    let column = column + ((drawn >> 16u32) & 255u32) as usize;
    let mut value = 0.0f32;
    if row >= SHIFT && row < SHIFT + height && column >= SHIFT && column < SHIFT + width {
        let mut column = column - SHIFT;
        if drawn & 1u32 == 1u32 {
            column = width - 1usize - column;
        }
        let position = ((source * channels + channel) * height + (row - SHIFT)) * width + column;
        let word = words[position / 4usize];
        let byte = (word >> (8u32 * (position % 4usize) as u32)) & 255u32;
        value = levels[byte as usize];
    }
    pixels[ABSOLUTE_POS] = value;
    input[ABSOLUTE_POS] = F::cast_from(value);
}
