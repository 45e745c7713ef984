//! The functions of cuBLASLt that are used, opened at run time.

use std::ffi::c_void;

use crate::c_library;

/// A pointer to something of the library's.
pub(super) type Opaque = *mut c_void;
/// `cublasStatus_t`; zero is success.
pub(super) type Status = i32;

/// `CUBLAS_COMPUTE_32F`
pub(super) const COMPUTE_32F: i32 = 68;
/// `CUBLAS_COMPUTE_32F_FAST_TF32`
pub(super) const COMPUTE_32F_FAST_TF32: i32 = 77;
/// `CUDA_R_32F`
pub(super) const R_32F: i32 = 0;
/// `CUDA_R_16BF`
pub(super) const R_16BF: i32 = 14;
/// `CUBLASLT_MATMUL_DESC_TRANSA`
pub(super) const DESC_TRANSA: i32 = 3;
/// `CUBLASLT_MATMUL_DESC_TRANSB`
pub(super) const DESC_TRANSB: i32 = 4;
/// `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`
pub(super) const PREF_MAX_WORKSPACE_BYTES: i32 = 1;

/// `cublasLtMatmulAlgo_t`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Algorithm {
    data: [u64; 8],
}

/// `cublasLtMatmulHeuristicResult_t`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Heuristic {
    pub(super) algorithm: Algorithm,
    pub(super) workspace: usize,
    pub(super) state: Status,
    waves: f32,
    reserved: [i32; 4],
}

c_library! {
    ["libcublasLt.so", "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "cublasLt64_13.dll", "cublasLt64_12.dll"];
    create = b"cublasLtCreate\0": fn(*mut Opaque) -> Status;
    desc_create = b"cublasLtMatmulDescCreate\0": fn(*mut Opaque, i32, i32) -> Status;
    desc_set = b"cublasLtMatmulDescSetAttribute\0": fn(Opaque, i32, *const c_void, usize) -> Status;
    layout_create = b"cublasLtMatrixLayoutCreate\0": fn(*mut Opaque, i32, u64, u64, i64) -> Status;
    preference_create = b"cublasLtMatmulPreferenceCreate\0": fn(*mut Opaque) -> Status;
    preference_set = b"cublasLtMatmulPreferenceSetAttribute\0": fn(Opaque, i32, *const c_void, usize) -> Status;
    heuristic = b"cublasLtMatmulAlgoGetHeuristic\0":
        fn(Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, i32, *mut Heuristic, *mut i32) -> Status;
    matmul = b"cublasLtMatmul\0":
        fn(Opaque, Opaque, *const c_void, *const c_void, Opaque, *const c_void, Opaque, *const c_void, *const c_void,
           Opaque, *mut c_void, Opaque, *const Algorithm, *mut c_void, usize, *mut c_void) -> Status;
}

pub(super) fn checked(what: &str, status: Status) -> Result<(), String> {
    if status == 0 {
        Ok(())
    } else {
        Err(format!("{what}: cuBLAS status {status}"))
    }
}
