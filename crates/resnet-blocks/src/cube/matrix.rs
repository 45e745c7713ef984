//! Matrices on a device, and how their rows and channels are divided among cubes and units.

use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use crate::precision::Precision;

use super::kernels::{ROWS, UNITS};
use super::queue::{Buffer, Queue};

/// The type in which maps lie in memory. Sums, statistics and the parameters' gradients are float32 in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    F32,
    Bf16,
}

impl Storage {
    /// That of a block's maps.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }

    pub fn elem(self) -> ElemType {
        ElemType::Float(match self {
            Self::F32 => FloatKind::F32,
            Self::Bf16 => FloatKind::BF16,
        })
    }

    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A row-major matrix: pixels by channels, or weights.
#[derive(Clone)]
pub struct Matrix {
    pub buffer: Buffer,
    pub rows: usize,
    pub columns: usize,
    pub storage: Storage,
}

impl Matrix {
    pub fn empty(client: &Queue, rows: usize, columns: usize, storage: Storage) -> Self {
        let buffer = client.buffer(rows * columns * storage.size());
        Self {
            buffer,
            rows,
            columns,
            storage,
        }
    }

    #[expect(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// All values, as a kernel's argument.
    pub fn argument(&self) -> BufferArg {
        // SAFETY: the buffer holds `rows * columns` values: `empty` made it so, or the tensor's shape says so.
        unsafe { BufferArg::from_raw_parts(self.buffer.handle(), self.len()) }
    }
}

/// One float32 for each channel, or a table of them.
#[derive(Clone)]
pub struct Vector32 {
    pub buffer: Buffer,
    pub len: usize,
}

impl Vector32 {
    pub fn empty(client: &Queue, len: usize) -> Self {
        Self {
            buffer: client.buffer(4 * len),
            len,
        }
    }

    pub fn argument(&self) -> BufferArg {
        // SAFETY: the buffer holds `len` float32: `empty` made it so, or the tensor's shape says so.
        unsafe { BufferArg::from_raw_parts(self.buffer.handle(), self.len) }
    }
}

/// Cubes wanted for a reduction: enough to fill a large card several times over.
const CUBES: usize = 1056;
/// Cubes in one direction that every device takes.
const MAX_CUBES: usize = 65_535;

/// How the values of a matrix are divided among cubes of 256 units, each taking vectors of one column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) rows: usize,
    pub(super) channels: usize,
    /// Values of a vector: 16 bytes where the channels allow it.
    pub(super) width: usize,
    /// Vectors of a row.
    pub(super) columns: usize,
    pub(super) units_x: usize,
    units_y: usize,
    /// Cubes over the rows in a reduction.
    pub(super) splits: usize,
    pub(super) rows_per_cube: usize,
}

impl Division {
    pub(super) fn of(matrix: &Matrix) -> Self {
        let (rows, channels) = (matrix.rows, matrix.columns);
        let mut width = 16 / matrix.storage.size();
        while !channels.is_multiple_of(width) {
            width /= 2;
        }
        let columns = channels / width;
        let units_x = columns.next_power_of_two().min(32);
        let units_y = UNITS as usize / units_x;
        let cubes_x = columns.div_ceil(units_x);
        // At least four turns of the unrolled loop for each unit, or the partial sums cost as much as the values.
        let splits = CUBES
            .div_ceil(cubes_x)
            .min(rows.div_ceil(units_y * ROWS * 4))
            .max(1);
        let rows_per_cube = rows.div_ceil(splits);
        Self {
            rows,
            channels,
            width,
            columns,
            units_x,
            units_y,
            splits: rows.div_ceil(rows_per_cube),
            rows_per_cube,
        }
    }

    /// `units_x` of them over the vectors of a row and the others over the rows, which kernels divide themselves: another shape of cube
    /// would be another kernel to compile.
    pub(super) fn units(&self) -> CubeDim {
        units()
    }

    fn cubes_x(&self) -> u32 {
        self.columns.div_ceil(self.units_x) as u32
    }

    /// Cubes of a reduction over the rows.
    pub(super) fn reducing(&self) -> CubeCount {
        CubeCount::Static(self.cubes_x(), self.splits as u32, 1)
    }

    /// Cubes of a pass over all rows, [`ROWS`] a unit.
    pub(super) fn applying(&self) -> CubeCount {
        let cubes = self.rows.div_ceil(self.units_y * ROWS);
        assert!(
            cubes <= MAX_CUBES,
            "{} rows of {} channels are too many for one pass; take a smaller batch",
            self.rows,
            self.channels
        );
        CubeCount::Static(self.cubes_x(), cubes as u32, 1)
    }

    /// Cubes of 32 x 8 units, 32 channels each.
    pub(super) fn finishing(&self) -> CubeCount {
        CubeCount::Static(self.channels.div_ceil(32) as u32, 1, 1)
    }

    pub(super) fn partial(&self, client: &Queue) -> Vector32 {
        Vector32::empty(client, self.splits * self.channels)
    }
}

/// Cubes of as many units as [`units`] says, one unit for each of `count` pieces of work.
pub fn cubes(count: usize) -> CubeCount {
    let cubes = count.div_ceil(UNITS as usize);
    let across = cubes.clamp(1, 32_768);
    CubeCount::Static(across as u32, cubes.div_ceil(across).max(1) as u32, 1)
}

/// The units of such a cube.
pub fn units() -> CubeDim {
    CubeDim::new_1d(UNITS)
}
