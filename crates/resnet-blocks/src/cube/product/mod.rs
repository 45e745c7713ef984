//! Matrix products behind one trait.

mod cubecl_products;
#[cfg(feature = "cuda")]
mod cublaslt;
mod operand;
mod plain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::CubeDevice;
use cubecl::prelude::*;

pub use cubecl_products::CubeClProducts;
pub use operand::{Operand, Products};
pub use plain::Plain;

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
