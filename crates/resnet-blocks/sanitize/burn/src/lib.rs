//! The one name of Burn that the kernels mention.

#![forbid(unsafe_code)]

/// Tensors.
pub mod tensor {
    /// Types of elements.
    pub trait Element: Copy {}
    impl Element for f32 {}
    impl Element for f64 {}
}
