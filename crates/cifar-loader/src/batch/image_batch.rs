//! Images and labels that go through a model together.

use crate::image_format::IMAGE_BYTES;
use crate::split::View;

impl View {
    /// The images at `positions` as one batch.
    ///
    /// # Panics
    /// When a position is past the end.
    pub fn batch(&self, positions: &[u32]) -> ImageBatch {
        gather(self, positions, |_, image, out| *out = *image)
    }
}

/// The images at `positions` of a view, each copied by `copy`, which is told its index in the publisher's split.
pub(super) fn gather(
    view: &View,
    positions: &[u32],
    copy: impl Fn(u32, &[u8; IMAGE_BYTES], &mut [u8; IMAGE_BYTES]),
) -> ImageBatch {
    let mut images = vec![0; positions.len() * IMAGE_BYTES];
    let (targets, _) = images.as_chunks_mut::<IMAGE_BYTES>();
    let mut labels = Vec::with_capacity(positions.len());
    for (position, target) in positions.iter().zip(targets) {
        let record = view.record(*position as usize);
        copy(view.record_index(*position as usize), record.image, target);
        labels.push(record.label);
    }
    ImageBatch {
        images,
        labels,
        positions: positions.to_vec(),
    }
}

/// Images and labels that go through a model together.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageBatch {
    images: Vec<u8>,
    labels: Vec<u8>,
    positions: Vec<u32>,
}

impl ImageBatch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// `[batch, 3, 32, 32]`, 0 to 255.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// `[batch]` classes, 0 to 9.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// `[batch]` positions of the images in the view they come from.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// `[batch, 3, 32, 32]` in [0, 1]: byte / 255.
    pub fn to_f32(&self) -> Vec<f32> {
        self.images
            .iter()
            .map(|byte| UNIT[usize::from(*byte)])
            .collect()
    }
}

/// byte / 255, correctly rounded.
static UNIT: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte as f32 / 255.0;
        byte += 1;
    }
    table
};

impl std::fmt::Debug for ImageBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageBatch")
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}
