//! The Vulkan device that numbers are tested on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use burn::prelude::*;

/// Whether it has computed something.
static COMPUTES: OnceLock<bool> = OnceLock::new();

/// A card, or Mesa's lavapipe, which computes on the processor.
///
/// # Panics
/// If there is none; the text says what to install.
pub fn vulkan() -> Device {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let computes = *COMPUTES.get_or_init(|| {
        let tried = AssertUnwindSafe(|| drop(Tensor::<1>::ones([2], &device).into_data()));
        catch_unwind(tried).is_ok()
    });
    assert!(
        computes,
        "no Vulkan device computes; apt-get install mesa-vulkan-drivers libvulkan1 brings one that needs no card"
    );
    device
}
