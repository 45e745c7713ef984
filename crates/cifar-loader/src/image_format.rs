//! The sizes of an image and of its record, and the classes.

/// Colour planes of an image, in the order red, green, blue.
pub const CHANNELS: usize = 3;
/// Rows of an image.
pub const HEIGHT: usize = 32;
/// Columns of an image.
pub const WIDTH: usize = 32;
/// Bytes of an image.
pub const IMAGE_BYTES: usize = CHANNELS * HEIGHT * WIDTH;
/// Bytes of a record: the label and the image.
pub const RECORD_BYTES: usize = 1 + IMAGE_BYTES;
/// Number of classes; labels are 0 to 9.
pub const NUM_CLASSES: usize = 10;
/// The publisher's names of the classes, by label.
pub const CLASS_NAMES: [&str; NUM_CLASSES] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
