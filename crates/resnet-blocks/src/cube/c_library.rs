//! Libraries of NVIDIA's with functions in C, opened at run time: a program that was built without them runs without them.

use std::error::Error;

/// Why a library could be opened under none of these names. The error's own text is that opening failed; the loader's is behind it.
#[doc(hidden)]
pub fn not_opened(tried: &[(&str, libloading::Error)]) -> String {
    let text = |error: &libloading::Error| {
        let source = error.source();
        source.map_or_else(|| error.to_string(), ToString::to_string)
    };
    // A library that is there and cannot be opened, or lacks another one, says more than the names that are not.
    let telling = tried.iter().filter_map(|(name, error)| {
        let text = text(error);
        let is_missing = text.starts_with(name) && text.contains(NOT_FOUND);
        (!is_missing).then_some(text)
    });
    let telling: Vec<String> = telling.collect();
    if !telling.is_empty() {
        return telling.join("; ");
    }
    let names: Vec<&str> = tried.iter().map(|(name, _)| *name).collect();
    format!("the loader finds none of {}", names.join(", "))
}

/// What glibc's loader says where it finds no file of that name.
const NOT_FOUND: &str = "No such file or directory";

/// Declares `Library`, with these functions of a C library, and `library()`, which opens it once: under the first of these names that there is.
///
/// `cudarc` has such declarations under features of its own; turning those on would compile CubeCL's CUDA runtime and Burn once more.
#[macro_export]
#[doc(hidden)]
macro_rules! c_library {
    (
        $names:expr;
        $($field:ident = $symbol:literal: fn($($argument:ty),*) -> $result:ty;)*
    ) => {
        pub(super) struct Library {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> $result,)*
            _library: $crate::cube::libloading::Library,
        }

        impl Library {
            fn open() -> Result<Self, String> {
                let mut tried = Vec::new();
                for name in $names {
                    // SAFETY: NVIDIA's libraries have no initialisers that could conflict.
                    match unsafe { $crate::cube::libloading::Library::new(name) } {
                        // SAFETY: the declarations follow NVIDIA's header.
                        Ok(library) => return unsafe {
                            Ok(Self {
                                $($field: *library.get($symbol).map_err(|error| error.to_string())?,)*
                                _library: library,
                            })
                        },
                        Err(error) => tried.push((name, error)),
                    }
                }
                Err($crate::cube::not_opened(&tried))
            }
        }

        /// The library, opened once; the reason where that fails.
        pub(super) fn library() -> Result<&'static Library, String> {
            static LIBRARY: std::sync::OnceLock<Result<Library, String>> =
                std::sync::OnceLock::new();
            LIBRARY
                .get_or_init(Library::open)
                .as_ref()
                .map_err(Clone::clone)
        }
    };
}
