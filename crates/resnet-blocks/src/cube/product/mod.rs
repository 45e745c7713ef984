//! Matrix products behind one trait.

mod cubecl_products;
#[cfg(feature = "cuda")]
mod cublaslt;
mod plain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::CubeDevice;
use cubecl::prelude::*;

use super::matrix::Matrix;
use super::queue::Queue;

pub use cubecl_products::CubeClProducts;
pub use plain::Plain;

/// One of a product's operands: a matrix, or its transpose.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub matrix: &'a Matrix,
    pub is_transposed: bool,
}

impl<'a> Operand<'a> {
    pub fn rows(&self) -> usize {
        if self.is_transposed {
            self.matrix.columns
        } else {
            self.matrix.rows
        }
    }

    pub fn columns(&self) -> usize {
        if self.is_transposed {
            self.matrix.rows
        } else {
            self.matrix.columns
        }
    }
}

impl Matrix {
    pub fn plain(&self) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed: false,
        }
    }

    pub fn transposed(&self) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed: true,
        }
    }

    /// The matrix, or its transpose.
    pub fn operand(&self, is_transposed: bool) -> Operand<'_> {
        Operand {
            matrix: self,
            is_transposed,
        }
    }
}

/// Rows, columns and inner dimension of a product.
///
/// # Panics
/// If the sizes do not match.
fn sizes(left: Operand<'_>, right: Operand<'_>, out: &Matrix) -> [usize; 3] {
    assert_eq!(
        (left.columns(), left.rows(), right.columns()),
        (right.rows(), out.rows, out.columns),
        "sizes of a product's inner dimension and result"
    );
    [out.rows, out.columns, left.columns()]
}

/// What multiplies matrices on a device.
pub trait Products: Send + Sync {
    /// What multiplies, as users know it.
    fn name(&self) -> String;

    /// What has gone wrong with a product that was asked for, as far as is known by now.
    fn failure(&self) -> Option<String> {
        None
    }

    /// As [`failure`](Self::failure), which it forgets: for whoever makes good what went wrong.
    fn take_failure(&self) -> Option<String> {
        None
    }

    /// `out = left * right`, or `out += left * right`. Operands have one type, the result may be float32; sums are float32.
    ///
    /// # Panics
    /// If the sizes do not match.
    fn multiply(
        &self,
        queue: &Queue,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    );
}

/// Names the products to compare with: `cubecl` or `plain`.
const CHOICE: &str = "RESNET_VAE_PRODUCTS";

/// The products of a device: cuBLASLt's where it can be opened, and otherwise the project's own. CubeCL's are there to compare with: NVRTC compiles one
/// of theirs in bfloat16 for minutes, and Mesa's Vulkan all of them.
///
/// # Panics
/// If `RESNET_VAE_PRODUCTS` in the environment is neither `cubecl` nor `plain`.
pub(super) fn products(client: &Client, device: &CubeDevice) -> Arc<dyn Products> {
    static OPENED: Mutex<Option<HashMap<String, Arc<dyn Products>>>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{device:?}");
    opened
        .get_or_insert_default()
        .entry(key)
        .or_insert_with(|| open(client, device))
        .clone()
}

fn open(client: &Client, device: &CubeDevice) -> Arc<dyn Products> {
    match std::env::var(CHOICE).as_deref() {
        Ok("plain") => return Arc::new(Plain::default()),
        Ok("cubecl") => return Arc::new(CubeClProducts),
        Ok(other) if !other.is_empty() => {
            panic!("{CHOICE} is {other:?}; give cubecl or plain, or unset it")
        }
        _ => {}
    }
    #[cfg(feature = "cuda")]
    if let CubeDevice::Cuda(device) = device {
        return match cublaslt::CublasLt::open(client, device.index as u16) {
            Ok(products) => Arc::new(products),
            Err(reason) => Arc::new(Plain {
                reason: Some(reason),
            }),
        };
    }
    let _ = (client, device);
    Arc::new(Plain::default())
}
