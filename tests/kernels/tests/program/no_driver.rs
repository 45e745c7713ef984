//! A machine without a driver for Vulkan.

use std::process::Command;

/// What these tests need is said by what they open their device with.
#[test]
fn what_to_install_is_said_where_no_driver_is() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_step"));
    command.args(["vulkan", "f32"]);
    // Nor one for OpenGL, which would be taken in its place.
    for variable in [
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "__EGL_VENDOR_LIBRARY_FILENAMES",
        "LIBGL_DRIVERS_PATH",
    ] {
        command.env(variable, "/nonexistent");
    }
    let output = command.output().expect("started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("apt-get install mesa-vulkan-drivers libvulkan1"),
        "{text}"
    );
}
