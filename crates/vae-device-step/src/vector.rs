//! Long vectors on a device, which are added in pieces.

use std::ops::Range;

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::Handle;
use resnet_blocks::cube::{Matrix, Queue, Storage, cubes, units};

use crate::flat::{argument, read, sliced};
use crate::kernels::shards;
use crate::layout::{self, Slot};
use crate::outcome::StepError;

/// Float32 values on a device: what shards of a batch contribute to a step.
///
/// Its memory serves again once it is dropped. It stays on the thread of its step.
pub struct DeviceVector {
    values: Matrix,
    queue: Queue,
}

impl DeviceVector {
    /// Pieces of a vector begin at multiples of this many values, as bindings want them.
    pub const ALIGNMENT: usize = layout::ALIGNMENT;

    /// With whatever values its memory has.
    pub(crate) fn empty(queue: &Queue, len: usize) -> Self {
        Self {
            values: Matrix::empty(queue, 1, len, Storage::F32),
            queue: queue.clone(),
        }
    }

    /// How many values there are; never none.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Its sum with the right neighbour in a tree of sums.
    pub fn and(self, right: Self) -> Self {
        self.add(&right, 0..self.len());
        self
    }

    /// Adds a piece of `other` to the same piece of this.
    ///
    /// # Panics
    /// If either is shorter.
    pub fn add(&self, other: &Self, piece: Range<usize>) {
        assert!(
            piece.end <= self.len().min(other.len()),
            "{piece:?} of {} and {} values",
            self.len(),
            other.len()
        );
        if piece.is_empty() {
            return;
        }
        // SAFETY: one unit a value of the piece, which both have.
        unsafe {
            shards::add::launch_unchecked(
                &self.queue,
                cubes(piece.len()),
                units(),
                self.argument(),
                other.argument(),
                piece.start,
                piece.len(),
            );
        }
    }

    /// A piece's values, on the host. Waits for the device.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn read(&self, piece: Range<usize>) -> Result<Vec<f32>, StepError> {
        if piece.is_empty() {
            return Ok(Vec::new());
        }
        read(&self.queue, &self.handle(piece)).map_err(StepError)
    }

    /// Sets the values from `first` on.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn write(&self, first: usize, values: &[f32]) {
        if !values.is_empty() {
            let piece = self.handle(first..first + values.len());
            self.queue.write(&piece, Bytes::from_elems(values.to_vec()));
        }
    }

    /// CubeCL's name for a piece.
    ///
    /// # Panics
    /// If the piece is not one of the vector's, or does not begin at a multiple of [`ALIGNMENT`](Self::ALIGNMENT).
    pub fn handle(&self, piece: Range<usize>) -> Handle {
        assert!(
            piece.end <= self.len() && piece.start.is_multiple_of(Self::ALIGNMENT),
            "piece {piece:?} of {} values",
            self.len()
        );
        let slot = Slot {
            offset: piece.start,
            len: piece.len(),
        };
        sliced(&self.values.buffer.handle(), self.len(), slot, 4)
    }

    pub(crate) fn argument(&self) -> BufferArg {
        argument(&self.values.buffer.handle(), self.len())
    }
}
