//! Pictures of a run inside a page.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use run_files::file_operations::read_at_most;

/// A larger file, in bytes, is no sheet of a run.
const LARGEST: u64 = 1 << 26;

const PNG_SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// A PNG file as an address of the form `data:`, with its size in pixels.
pub(super) struct Picture {
    pub(super) address: String,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Picture {
    /// Reads a PNG file; none where there is no such file or it is no PNG, since a report is worth having without it.
    pub(super) fn read(path: &Path) -> Option<Self> {
        Self::from_png(&read_at_most(path, LARGEST).ok()?)
    }

    fn from_png(bytes: &[u8]) -> Option<Self> {
        // A PNG begins with its signature and the header chunk: length, name, width, height.
        let rest = bytes.strip_prefix(PNG_SIGNATURE)?;
        let size = rest.get(4..)?.strip_prefix(b"IHDR")?;
        let number = |from: usize| {
            Some(u32::from_be_bytes(
                size.get(from..from + 4)?.try_into().ok()?,
            ))
        };
        Some(Self {
            address: format!("data:image/png;base64,{}", STANDARD.encode(bytes)),
            width: number(0)?,
            height: number(4)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_sheet::{SheetLayout, VALUES, encode_png};

    #[test]
    fn a_sheet_has_its_size_and_its_bytes() {
        let layout = SheetLayout {
            upscale: 2,
            ..SheetLayout::with_columns(2)
        };
        let png = encode_png(&vec![0.5; 3 * VALUES], layout).expect("a sheet");
        let picture = Picture::from_png(&png).expect("a PNG");
        // Two columns and two rows of 64 pixels, 2 apart.
        assert_eq!((picture.width, picture.height), (130, 130));
        // The first bytes of any PNG, by `base64` of the GNU core utilities.
        assert!(
            picture
                .address
                .starts_with("data:image/png;base64,iVBORw0KGgoAAAANSUhEUg")
        );
    }

    #[test]
    fn what_is_no_png_is_left_out() {
        assert!(Picture::from_png(b"").is_none());
        assert!(Picture::from_png(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0").is_none());
        assert!(Picture::from_png(b"<svg>").is_none());
        assert!(Picture::read(Path::new("no-such-file.png")).is_none());
    }
}
