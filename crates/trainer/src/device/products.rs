//! What multiplies matrices on a GPU, as users are told it.

use burn::tensor::Device;

use run_files::settings::DeviceChoice;

/// What multiplies matrices on a device; none on processors.
pub(crate) fn matrix_products(device: &Device) -> Option<String> {
    #[cfg(feature = "cube")]
    return resnet_blocks::cube::products_of(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}

/// The line that says so; none on processors.
pub(crate) fn matrix_products_line(choice: DeviceChoice, device: &Device) -> Option<String> {
    let name = matrix_products(device)?;
    Some(format!("matrix products on {choice}: {name}"))
}

/// What of them is slower than that says: which products it refused, as far as is known by now.
pub(crate) fn unplanned_products(device: &Device) -> Option<String> {
    #[cfg(feature = "cube")]
    return resnet_blocks::cube::unplanned_products_of(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}
