//! The functions of cuBLASLt that are used, opened at run time.
//!
//! `cudarc` has the same declarations under a feature of its own; turning that on would compile CubeCL's CUDA runtime and Burn once more.

use std::ffi::c_void;
use std::sync::OnceLock;

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

macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*);)*) => {
        pub(super) struct Library {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Status,)*
            _library: libloading::Library,
        }

        impl Library {
            fn open() -> Result<Self, String> {
                let names = ["libcublasLt.so", "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "cublasLt64_13.dll", "cublasLt64_12.dll"];
                let mut errors = Vec::new();
                for name in names {
                    // SAFETY: NVIDIA's library has no initialisers that could conflict.
                    match unsafe { libloading::Library::new(name) } {
                        // SAFETY: the declarations follow NVIDIA's header.
                        Ok(library) => return unsafe {
                            Ok(Self {
                                $($field: *library.get($symbol).map_err(|error| error.to_string())?,)*
                                _library: library,
                            })
                        },
                        Err(error) => errors.push(error.to_string()),
                    }
                }
                Err(errors.join("; "))
            }
        }
    };
}

functions! {
    create = b"cublasLtCreate\0": fn(*mut Opaque);
    desc_create = b"cublasLtMatmulDescCreate\0": fn(*mut Opaque, i32, i32);
    desc_set = b"cublasLtMatmulDescSetAttribute\0": fn(Opaque, i32, *const c_void, usize);
    layout_create = b"cublasLtMatrixLayoutCreate\0": fn(*mut Opaque, i32, u64, u64, i64);
    preference_create = b"cublasLtMatmulPreferenceCreate\0": fn(*mut Opaque);
    preference_set = b"cublasLtMatmulPreferenceSetAttribute\0": fn(Opaque, i32, *const c_void, usize);
    heuristic = b"cublasLtMatmulAlgoGetHeuristic\0":
        fn(Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, i32, *mut Heuristic, *mut i32);
    matmul = b"cublasLtMatmul\0":
        fn(Opaque, Opaque, *const c_void, *const c_void, Opaque, *const c_void, Opaque, *const c_void, *const c_void,
           Opaque, *mut c_void, Opaque, *const Algorithm, *mut c_void, usize, *mut c_void);
}

/// The library, opened once; the reason where that fails.
pub(super) fn library() -> Result<&'static Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY
        .get_or_init(Library::open)
        .as_ref()
        .map_err(Clone::clone)
}

pub(super) fn checked(what: &str, status: Status) -> Result<(), String> {
    if status == 0 {
        Ok(())
    } else {
        Err(format!("{what}: cuBLAS status {status}"))
    }
}
