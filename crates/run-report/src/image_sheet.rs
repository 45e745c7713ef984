//! Sheets of small RGB pictures as PNG, and reading a picture to the size the model takes.
//!
//! Values are clamped to [0, 1] and never rescaled an image at a time, so the brightness of pictures can be compared
//! within a sheet and between epochs.

use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageReader, Limits, imageops};

use run_files::atomic_file::write_atomically;

/// Height and width of every picture, in pixels.
pub const SIDE: usize = 32;

/// Colour planes of every picture: red, green, blue.
pub const CHANNELS: usize = 3;

const PLANE: usize = SIDE * SIDE;

/// Values of one picture.
pub const VALUES: usize = CHANNELS * PLANE;

/// Grey level of gaps and empty places; white, so that dark pictures keep their outline.
const BACKGROUND: u8 = 255;

/// Widest side of a picture that is read, in pixels, and most memory that reading may take, in bytes.
const LARGEST_SIDE: u32 = 16_384;
const LARGEST_DECODED: u64 = 1 << 30;

/// How pictures are laid out: row after row, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetLayout {
    /// Pictures a row, at least 1.
    pub columns: usize,
    /// Pixels between pictures, after magnification.
    pub gap: usize,
    /// Whole-number magnification, at least 1; each pixel becomes a square of this side.
    pub upscale: usize,
}

impl SheetLayout {
    /// A layout with the usual gap of 2 pixels and no magnification.
    pub fn with_columns(columns: usize) -> Self {
        Self {
            columns,
            gap: 2,
            upscale: 1,
        }
    }
}

/// Why a sheet could not be made, or a picture not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageSheetError {
    /// The values are not whole pictures.
    #[error(
        "a sheet takes whole pictures of 3 x 32 x 32 = {VALUES} values, at least one, but got {found} values"
    )]
    NotWholePictures {
        /// Values given.
        found: usize,
    },
    /// A layout without columns or magnification, or one that is larger than a PNG can be.
    #[error(
        "a sheet of {count} pictures cannot be laid out as {layout:?}: columns and upscale must be at least 1"
    )]
    ImpossibleLayout {
        /// Pictures given.
        count: usize,
        /// The layout.
        layout: SheetLayout,
    },
    /// The PNG could not be encoded.
    #[error("cannot encode a sheet as PNG: {0}")]
    Encoding(image::ImageError),
    /// A file could not be written.
    #[error("cannot write {}: {cause}; check free space and permissions", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}: {cause}; check the path", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file that is no picture of a known format.
    #[error("{} is no picture that can be read: {cause}; give a PNG or JPEG file", path.display())]
    NoPicture {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: image::ImageError,
    },
}

impl ImageSheetError {
    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::Unwritable { path, cause } if run_files::disk::is_full(cause) => Some(path),
            _ => None,
        }
    }
}

/// Encodes pictures as one PNG.
///
/// # Shapes
/// - images: `[count, 3, 32, 32]`, in [0, 1]; values outside are clamped, NaN becomes 0
///
/// # Errors
/// [`ImageSheetError::NotWholePictures`], [`ImageSheetError::ImpossibleLayout`], [`ImageSheetError::Encoding`].
pub fn encode_png(images: &[f32], layout: SheetLayout) -> Result<Vec<u8>, ImageSheetError> {
    let bytes: Vec<u8> = images.iter().map(|value| to_byte(*value)).collect();
    encode_png_u8(&bytes, layout)
}

/// Encodes pictures of bytes as one PNG.
///
/// # Shapes
/// - images: `[count, 3, 32, 32]`
///
/// # Errors
/// As [`encode_png`].
pub fn encode_png_u8(images: &[u8], layout: SheetLayout) -> Result<Vec<u8>, ImageSheetError> {
    let sheet = Sheet::draw(images, layout)?;
    let mut png = Vec::new();
    // Named settings, so that an encoder's new defaults cannot change the bytes of a run.
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
        .write_image(
            &sheet.pixels,
            sheet.width,
            sheet.height,
            ExtendedColorType::Rgb8,
        )
        .map_err(ImageSheetError::Encoding)?;
    Ok(png)
}

/// Writes pictures to a PNG file, atomically.
///
/// # Shapes
/// - images: `[count, 3, 32, 32]`, in [0, 1]
///
/// # Errors
/// As [`encode_png`], and [`ImageSheetError::Unwritable`].
pub fn write_png(path: &Path, images: &[f32], layout: SheetLayout) -> Result<(), ImageSheetError> {
    let png = encode_png(images, layout)?;
    write_atomically(path, &png).map_err(|cause| ImageSheetError::Unwritable {
        path: path.to_owned(),
        cause,
    })
}

/// Reads a picture of any size and resizes it to 32 x 32, without keeping its aspect ratio.
///
/// A picture that already has that size keeps its exact values. Transparency is dropped.
///
/// # Shapes
/// - output: `[3, 32, 32]`, in [0, 1]
///
/// # Errors
/// [`ImageSheetError::Unreadable`], [`ImageSheetError::NoPicture`].
pub fn load_rgb_image(path: &Path) -> Result<Vec<f32>, ImageSheetError> {
    let unreadable = |cause| ImageSheetError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    // By content, not by the name's ending.
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(unreadable)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_DECODED);
    reader.limits(limits);
    let picture = reader
        .decode()
        .map_err(|cause| ImageSheetError::NoPicture {
            path: path.to_owned(),
            cause,
        })?
        .into_rgb8();
    let side = SIDE as u32;
    let small = if picture.dimensions() == (side, side) {
        picture
    } else {
        // The triangle filter widens with the reduction, so fine patterns are averaged rather than aliased.
        imageops::resize(&picture, side, side, imageops::FilterType::Triangle)
    };
    let mut planes = vec![0.0; VALUES];
    for (position, pixel) in small.pixels().enumerate() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            planes[channel * PLANE + position] = f32::from(value) / 255.0;
        }
    }
    Ok(planes)
}

/// The nearest byte of a value in [0, 1].
fn to_byte(value: f32) -> u8 {
    // `as` saturates, and turns NaN into 0.
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Pixels of a sheet, three interleaved bytes each.
struct Sheet {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Sheet {
    fn draw(images: &[u8], layout: SheetLayout) -> Result<Self, ImageSheetError> {
        if images.is_empty() || !images.len().is_multiple_of(VALUES) {
            return Err(ImageSheetError::NotWholePictures {
                found: images.len(),
            });
        }
        let count = images.len() / VALUES;
        let impossible = || ImageSheetError::ImpossibleLayout { count, layout };
        let SheetLayout {
            columns,
            gap,
            upscale,
        } = layout;
        if columns == 0 || upscale == 0 {
            return Err(impossible());
        }
        let rows = count.div_ceil(columns);
        let tile = SIDE.checked_mul(upscale).ok_or_else(impossible)?;
        let extent = |tiles: usize| {
            let pixels = tiles
                .checked_mul(tile)?
                .checked_add((tiles - 1).checked_mul(gap)?)?;
            u32::try_from(pixels).ok()
        };
        let width = extent(columns).ok_or_else(impossible)?;
        let height = extent(rows).ok_or_else(impossible)?;
        let bytes = (width as usize)
            .checked_mul(height as usize)
            .and_then(|area| area.checked_mul(CHANNELS));
        let mut pixels = vec![BACKGROUND; bytes.ok_or_else(impossible)?];

        for (index, picture) in images.chunks_exact(VALUES).enumerate() {
            let top = index / columns * (tile + gap);
            let left = index % columns * (tile + gap);
            for y in 0..tile {
                for x in 0..tile {
                    let position = y / upscale * SIDE + x / upscale;
                    let start = ((top + y) * width as usize + left + x) * CHANNELS;
                    for channel in 0..CHANNELS {
                        pixels[start + channel] = picture[channel * PLANE + position];
                    }
                }
            }
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }
}

#[cfg(test)]
mod tests;
