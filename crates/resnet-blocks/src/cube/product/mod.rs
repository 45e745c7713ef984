//! Matrix products behind one trait.

#[cfg(feature = "cuda")]
mod cublaslt;
mod plain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::CubeDevice;
use cubecl::prelude::*;

use super::matrix::Matrix;

pub(super) use plain::Plain;

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

/// What multiplies matrices on a device.
pub trait Products: Send + Sync {
    /// `out = left * right`, or `out += left * right`. Operands have one type, the result may be float32; sums are float32.
    ///
    /// # Panics
    /// If the sizes do not match.
    fn multiply(
        &self,
        client: &Client,
        left: Operand<'_>,
        right: Operand<'_>,
        out: &Matrix,
        is_added: bool,
    );
}

/// The products of a device: a library's where it has one that can be opened, and otherwise the plain kernel.
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
    #[cfg(feature = "cuda")]
    if let CubeDevice::Cuda(device) = device
        && let Ok(products) = cublaslt::CublasLt::open(client, device.index as u16)
    {
        return Arc::new(products);
    }
    let _ = (client, device);
    Arc::new(Plain)
}
