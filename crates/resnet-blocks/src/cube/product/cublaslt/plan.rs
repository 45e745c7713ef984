//! How the library makes a product.

use super::WORKSPACE;
use super::library::{
    COMPUTE_32F, COMPUTE_32F_FAST_TF32, DESC_TRANSA, DESC_TRANSB, Heuristic, Opaque,
    PREF_MAX_WORKSPACE_BYTES, R_16BF, R_32F, checked, library,
};
use crate::cube::matrix::Storage;

/// What distinguishes one product from another: a plan serves all with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) operands: Storage,
    pub(super) result: Storage,
    pub(super) is_left_transposed: bool,
    pub(super) is_right_transposed: bool,
}

pub(super) struct Plan {
    pub(super) descriptor: Opaque,
    pub(super) left: Opaque,
    pub(super) right: Opaque,
    pub(super) out: Opaque,
    pub(super) algorithm: Heuristic,
}

impl Plan {
    /// The library's choice, for the card whose context is current.
    pub(super) fn of(key: &Key, handle: Opaque) -> Result<Self, String> {
        match key.operands {
            Storage::Bf16 => Self::with(key, COMPUTE_32F, handle),
            // On tensor cores as Burn's own products of float32 are; cards before them have none.
            Storage::F32 => Self::with(key, COMPUTE_32F_FAST_TF32, handle)
                .or_else(|_| Self::with(key, COMPUTE_32F, handle)),
        }
    }

    fn with(key: &Key, compute: i32, handle: Opaque) -> Result<Self, String> {
        let library = library()?;
        let dtype = |storage| match storage {
            Storage::F32 => R_32F,
            Storage::Bf16 => R_16BF,
        };
        let null: Opaque = std::ptr::null_mut();
        let (mut descriptor, mut preference) = (null, null);
        // A row-major matrix is, column by column, its transpose.
        let matrix = |rows: usize, columns: usize, storage| {
            let mut layout = null;
            // SAFETY: an out pointer to a local.
            let status = unsafe {
                (library.layout_create)(
                    &mut layout,
                    dtype(storage),
                    columns as u64,
                    rows as u64,
                    columns as i64,
                )
            };
            checked("cublasLtMatrixLayoutCreate", status).map(|()| layout)
        };
        let stored = |rows, columns, is_transposed| {
            if is_transposed {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let (left_rows, left_columns) = stored(key.rows, key.depth, key.is_left_transposed);
        let (right_rows, right_columns) = stored(key.depth, key.columns, key.is_right_transposed);
        let left = matrix(left_rows, left_columns, key.operands)?;
        let right = matrix(right_rows, right_columns, key.operands)?;
        let out = matrix(key.rows, key.columns, key.result)?;
        let workspace = WORKSPACE;
        let mut algorithm = Heuristic::default();
        let mut count = 0;
        // SAFETY: out pointers to locals, attributes of the sizes that the header states.
        unsafe {
            checked(
                "cublasLtMatmulDescCreate",
                (library.desc_create)(&mut descriptor, compute, R_32F),
            )?;
            let set = |attribute, value: i32| {
                (library.desc_set)(
                    descriptor,
                    attribute,
                    (&raw const value).cast(),
                    size_of::<i32>(),
                )
            };
            checked(
                "TRANSA",
                set(DESC_TRANSA, i32::from(key.is_right_transposed)),
            )?;
            checked(
                "TRANSB",
                set(DESC_TRANSB, i32::from(key.is_left_transposed)),
            )?;
            checked(
                "cublasLtMatmulPreferenceCreate",
                (library.preference_create)(&mut preference),
            )?;
            let bytes = (&raw const workspace).cast();
            checked(
                "MAX_WORKSPACE_BYTES",
                (library.preference_set)(
                    preference,
                    PREF_MAX_WORKSPACE_BYTES,
                    bytes,
                    size_of::<usize>(),
                ),
            )?;
            let status = (library.heuristic)(
                handle,
                descriptor,
                right,
                left,
                out,
                out,
                preference,
                1,
                &mut algorithm,
                &mut count,
            );
            checked("cublasLtMatmulAlgoGetHeuristic", status)?;
        }
        if count == 0 || algorithm.state != 0 {
            return Err("it has no algorithm".into());
        }
        Ok(Self {
            descriptor,
            left,
            right,
            out,
            algorithm,
        })
    }
}
