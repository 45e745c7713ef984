//! The floor of Bernoulli cross-entropy: the entropy of the pixels themselves.
//!
//! Cross-entropy against a target `x` in [0, 1] is least when the prediction is `x`, and is then the binary entropy
//! of `x`, which is 0 only for black and white. What a model scores above this floor is its *excess*.

use std::sync::LazyLock;

use crate::augment::{PADDING, Placement};
use crate::image_format::{HEIGHT, IMAGE_BYTES, WIDTH};
use crate::split::View;

/// Binary entropy of each byte value, in nats.
static ENTROPY: LazyLock<[f64; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let p = byte as f64 / 255.0;
        let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        term(p) + term(1.0 - p)
    })
});

/// The floor of one image, in nats.
///
/// ```text
/// sum over pixels of -(p ln p + (1 - p) ln(1 - p)),  p = byte / 255
/// ```
pub fn image_pixel_entropy(image: &[u8]) -> f64 {
    image.iter().map(|byte| ENTROPY[usize::from(*byte)]).sum()
}

/// The floor of an image as a draw of augmentation shows it, in nats.
///
/// # Shapes
/// - image: `[3, 32, 32]`
pub(crate) fn shown_pixel_entropy(image: &[u8; IMAGE_BYTES], placement: Placement) -> f64 {
    // Of rows 4 to 35 of the padded image, which are the image's own, those in the window.
    let visible =
        |start: usize, size: usize| start.saturating_sub(PADDING)..size.min(size + start - PADDING);
    let rows = visible(placement.top, HEIGHT);
    let columns = visible(placement.left, WIDTH);
    let columns = if placement.flip {
        WIDTH - columns.end..WIDTH - columns.start
    } else {
        columns
    };
    let planes = image.chunks_exact(HEIGHT * WIDTH);
    let shown = planes.flat_map(|plane| {
        let rows = plane.chunks_exact(WIDTH).take(rows.end).skip(rows.start);
        rows.map(|row| image_pixel_entropy(&row[columns.clone()]))
    });
    shown.sum()
}

/// The mean floor of the images of a view, in nats per image; 0 for an empty view.
///
/// Over the CIFAR-10 test images it is 1681.72, over the training images 1678.91.
pub fn pixel_entropy_floor(view: &View) -> f64 {
    // A histogram sums 256 exact counts, so that the result does not depend on the order of the images.
    let mut histogram = [0u64; 256];
    for position in 0..view.len() {
        view.image(position)
            .iter()
            .for_each(|byte| histogram[usize::from(*byte)] += 1);
    }
    let total: f64 = histogram
        .iter()
        .zip(ENTROPY.iter())
        .map(|(count, nats)| *count as f64 * nats)
        .sum();
    total / view.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;

    #[test]
    fn black_and_white_have_no_entropy_and_grey_has_almost_ln_2() {
        assert_eq!(image_pixel_entropy(&[0, 255]), 0.0);
        // p = 127/255 is 1/510 from one half; entropy is ln 2 - 2 d^2 - O(d^4).
        let expected = std::f64::consts::LN_2 - 2.0 / (510.0 * 510.0);
        assert!((image_pixel_entropy(&[127]) - expected).abs() < 1e-10);
        assert!((image_pixel_entropy(&[100]) - image_pixel_entropy(&[155])).abs() < 1e-15);
    }

    #[test]
    fn the_floor_is_the_mean_over_images() {
        let view = Cifar10::sample().unwrap().test();
        let mean = (0..view.len())
            .map(|position| image_pixel_entropy(view.image(position)))
            .sum::<f64>()
            / view.len() as f64;
        assert!((pixel_entropy_floor(&view) - mean).abs() < 1e-8);
        assert!(mean < IMAGE_BYTES as f64 * std::f64::consts::LN_2);
        assert_eq!(pixel_entropy_floor(&view.first(0)), 0.0);
    }
}
