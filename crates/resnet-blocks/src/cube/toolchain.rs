//! The versions that decide whether a compiled kernel can be loaded.

use cudarc::driver::sys::cuDriverGetVersion;
use cudarc::nvrtc::sys::nvrtcVersion;

/// NVRTC's and the driver's versions, as `nvrtc-12.9-driver-13.0`; none where one of the two cannot be asked.
///
/// # Panics
/// If NVRTC's library or the driver's cannot be loaded.
pub fn toolchain() -> Option<String> {
    let (mut major, mut minor, mut driver) = (0, 0, 0);
    // SAFETY: each call writes into locals that outlive it.
    unsafe {
        nvrtcVersion(&raw mut major, &raw mut minor).result().ok()?;
        cuDriverGetVersion(&raw mut driver).result().ok()?;
    }
    // The driver's 13.1 is 13010.
    let of_driver = [driver / 1000, driver % 1000 / 10];
    Some(format!(
        "nvrtc-{major}.{minor}-driver-{}.{}",
        of_driver[0], of_driver[1]
    ))
}
