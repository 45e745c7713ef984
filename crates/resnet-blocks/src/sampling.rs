//! The direction of a stride.

use burn::prelude::*;

/// Whether a layer with a stride shrinks or enlarges the image.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// An ordinary convolution: a stride `s` divides height and width by `s`, rounding up.
    Strided,
    /// A transposed convolution: a stride `s` multiplies height and width by `s`.
    Transposed,
}
