//! Whether a JPEG file holds its whole picture: decoders fill what is missing with grey.

const MARK: u8 = 0xff;
const START: u8 = 0xd8;
const END: u8 = 0xd9;

/// Whether bytes that begin as a JPEG end before its end marker. Of other formats it is false.
///
/// Segments are passed over by their lengths, so that the end of a thumbnail inside one is not taken for the end of the picture.
pub(crate) fn is_cut_off(jpeg: &[u8]) -> bool {
    let Some(rest) = jpeg.strip_prefix(&[MARK, START]) else {
        return false;
    };
    !reaches_its_end(rest)
}

fn reaches_its_end(mut rest: &[u8]) -> bool {
    loop {
        // Entropy-coded bytes and fill bytes up to the next marker; a zero makes 0xff a byte of the former.
        let Some(position) = rest
            .windows(2)
            .position(|pair| pair[0] == MARK && !matches!(pair[1], 0 | MARK))
        else {
            return false;
        };
        let marker = rest[position + 1];
        rest = &rest[position + 2..];
        match marker {
            END => return true,
            // Without a length: restarts, and the start of a picture within the picture.
            0x01 | 0xd0..=START => {}
            _ => {
                let &[high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(behind) = rest.get(length.max(2)..) else {
                    return false;
                };
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..64 * 48 * 3)
            .map(|index| (index * 31 % 251) as u8)
            .collect();
        JpegEncoder::new(&mut bytes)
            .encode(&pixels, 64, 48, image::ExtendedColorType::Rgb8)
            .expect("encoded");
        bytes
    }

    #[test]
    fn every_cut_is_noticed_and_a_whole_file_is_not() {
        let whole = jpeg();
        assert!(!is_cut_off(&whole));
        for length in 2..whole.len() {
            assert!(is_cut_off(&whole[..length]), "{length} of {}", whole.len());
        }
        assert!(!is_cut_off(
            &[&whole[..], b"what some cameras add"].concat()
        ));
        assert!(!is_cut_off(b"\x89PNG") && !is_cut_off(b""));
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end() {
        let (whole, thumbnail) = (jpeg(), jpeg());
        let length = (thumbnail.len() + 2) as u16;
        let segment = [&[MARK, 0xe1], &length.to_be_bytes()[..], &thumbnail].concat();
        let with_thumbnail = [&whole[..2], &segment, &whole[2..]].concat();
        assert!(!is_cut_off(&with_thumbnail));
        let half = &with_thumbnail[..with_thumbnail.len() - whole.len() / 2];
        assert!(is_cut_off(half));
    }
}
