//! Random changes to training images that keep their class.

use rand_core::Rng;

use crate::image_format::{CHANNELS, HEIGHT, IMAGE_BYTES, WIDTH};
use crate::names::names;
use crate::permutation::{DataDraw, below, stream};

/// Rows and columns of black around an image before it is cropped back to 32 x 32.
pub(crate) const PADDING: usize = 4;

/// How training images are changed; the draw depends on seed, epoch and image only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Augment {
    /// Images as they are.
    #[default]
    None,
    /// Left and right exchanged with probability one half.
    Flip,
    /// `Flip`, then a 32 x 32 window of the image padded by 4 black pixels on each side.
    FlipCrop,
}

names!(Augment, "augmentation", None => "none", Flip => "flip", FlipCrop => "flip-crop");

/// One draw: where the output's pixels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Whether left and right are exchanged before the image is padded.
    pub flip: bool,
    /// First row of the window in the image padded by 4 on each side, 0 to 8; 4 is centred.
    pub top: usize,
    /// First column of the window in the padded image, 0 to 8; 4 is centred.
    pub left: usize,
}

impl Placement {
    /// Row and column of the image (flipped, where it is) that the output begins with, -4 to 4; what is outside of the image is black.
    pub fn first(&self) -> [i8; 2] {
        [self.top, self.left].map(|first| first as i8 - PADDING as i8)
    }
}

impl Augment {
    /// The draw for the image `record_index` in one epoch.
    pub(crate) fn draw(self, seed: u64, epoch: u64, record_index: u32) -> Placement {
        let centred = Placement {
            flip: false,
            top: PADDING,
            left: PADDING,
        };
        if self == Self::None {
            return centred;
        }
        let mut rng = stream(DataDraw::Augment, seed, epoch, u64::from(record_index));
        let flip = rng.next_u32() >> 31 == 1;
        if self == Self::Flip {
            return Placement { flip, ..centred };
        }
        let mut offset = || below(&mut rng, 2 * PADDING as u32 + 1) as usize;
        Placement {
            flip,
            top: offset(),
            left: offset(),
        }
    }
}

impl Placement {
    /// Writes the changed image over `out`.
    ///
    /// # Shapes
    /// - image, out: `[3, 32, 32]`
    pub(crate) fn apply(self, image: &[u8; IMAGE_BYTES], out: &mut [u8; IMAGE_BYTES]) {
        if !self.flip && self.top == PADDING && self.left == PADDING {
            *out = *image;
            return;
        }
        for plane_and_row in 0..CHANNELS * HEIGHT {
            let (plane, row) = (plane_and_row / HEIGHT, plane_and_row % HEIGHT);
            let target = &mut out[plane_and_row * WIDTH..][..WIDTH];
            let Some(source_row) = shifted(row, self.top, HEIGHT) else {
                target.fill(0);
                continue;
            };
            let source = &image[(plane * HEIGHT + source_row) * WIDTH..][..WIDTH];
            for (column, pixel) in target.iter_mut().enumerate() {
                *pixel = shifted(column, self.left, WIDTH).map_or(0, |column| {
                    source[if self.flip {
                        WIDTH - 1 - column
                    } else {
                        column
                    }]
                });
            }
        }
    }
}

/// The row or column of the unpadded image under `position` of a window that starts at `start`.
fn shifted(position: usize, start: usize, size: usize) -> Option<usize> {
    (position + start)
        .checked_sub(PADDING)
        .filter(|inner| *inner < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> [u8; IMAGE_BYTES] {
        std::array::from_fn(|index| (index % 251) as u8 + 1)
    }

    fn applied(placement: Placement) -> [u8; IMAGE_BYTES] {
        let mut out = [9; IMAGE_BYTES];
        placement.apply(&image(), &mut out);
        out
    }

    #[test]
    fn a_window_begins_with_its_first_row_and_column() {
        for (flip, top, left) in [(false, 0, 7), (true, 8, 1), (true, 3, 4), (false, 4, 4)] {
            let placement = Placement { flip, top, left };
            let [first_row, first_column] = placement.first().map(i32::from);
            let (out, image) = (applied(placement), image());
            for row in 0..32 {
                for column in 0..32 {
                    let (from_row, from_column) = (row + first_row, column + first_column);
                    let is_inside = (0..32).contains(&from_row) && (0..32).contains(&from_column);
                    let from_column = if flip { 31 - from_column } else { from_column };
                    let expected = match is_inside {
                        true => image[(from_row * 32 + from_column) as usize],
                        false => 0,
                    };
                    let found = out[(row * 32 + column) as usize];
                    assert_eq!(found, expected, "{placement:?}, {row}, {column}");
                }
            }
        }
    }

    #[test]
    fn a_flip_exchanges_left_and_right_in_every_plane() {
        let out = applied(Placement {
            flip: true,
            top: 4,
            left: 4,
        });
        for row in 0..CHANNELS * HEIGHT {
            for column in 0..WIDTH {
                assert_eq!(
                    out[row * WIDTH + column],
                    image()[row * WIDTH + 31 - column]
                );
            }
        }
    }

    #[test]
    fn a_crop_shifts_the_image_over_black() {
        let out = applied(Placement {
            flip: false,
            top: 0,
            left: 8,
        });
        assert!(out[..4 * WIDTH].iter().all(|pixel| *pixel == 0));
        assert_eq!(out[4 * WIDTH], image()[4]);
        assert_eq!(out[4 * WIDTH + 27], image()[31]);
        assert_eq!(out[4 * WIDTH + 28], 0);
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_image_and_cover_every_window() {
        let draws: Vec<_> = (0..2000)
            .map(|index| Augment::FlipCrop.draw(1, 2, index))
            .collect();
        let again: Vec<_> = (0..2000)
            .rev()
            .map(|index| Augment::FlipCrop.draw(1, 2, index))
            .collect();
        assert!(draws.iter().eq(again.iter().rev()));
        let flips = draws.iter().filter(|draw| draw.flip).count();
        assert!(
            (888..=1112).contains(&flips),
            "five standard deviations around 1000: {flips}"
        );
        for offset in 0..=8 {
            assert!(draws.iter().any(|draw| draw.top == offset));
            assert!(draws.iter().any(|draw| draw.left == offset));
        }
        assert!(
            (0..64).any(|index| Augment::Flip.draw(1, 3, index) != Augment::Flip.draw(1, 2, index))
        );
        assert!(
            (0..64).any(|index| Augment::Flip.draw(2, 2, index) != Augment::Flip.draw(1, 2, index))
        );
    }

    #[test]
    fn no_augmentation_leaves_the_image() {
        assert_eq!(applied(Augment::None.draw(1, 2, 3)), image());
    }
}
