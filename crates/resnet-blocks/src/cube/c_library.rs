//! Libraries of NVIDIA's with functions in C, opened at run time: a program that was built without them runs without them.

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
                let mut errors = Vec::new();
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
                        Err(error) => errors.push(error.to_string()),
                    }
                }
                Err(errors.join("; "))
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
