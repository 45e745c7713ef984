//! Blocks and whole autoencoders on a Vulkan device: a card, or Mesa's lavapipe, which computes on the processor
//! (`apt-get install mesa-vulkan-drivers`). Without one every test fails.
//!
//! Tolerances are those of float32 in the crates' own tests, whose checks these are.

#[allow(dead_code)] // The tolerances of other types.
#[path = "../../../crates/vae-core/tests/checks/golden.rs"]
mod autoencoder;
#[path = "../../../crates/resnet-blocks/tests/checks/golden.rs"]
mod block;
#[path = "../../../crates/resnet-blocks/tests/checks/forms.rs"]
mod forms;

use burn::prelude::*;
use burn::tensor::DType;
use vae_core::Depth;

fn golden_path(file: &str) -> String {
    let owner = if file.starts_with("vae") {
        "vae-core"
    } else {
        "resnet-blocks"
    };
    format!(
        "{}/../../crates/{owner}/tests/golden/{file}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn vulkan() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

#[allow(deprecated)] // The reference backend until Burn removes it.
fn reference() -> Device {
    Device::ndarray()
}

/// What may differ, as a relative L2 distance a tensor.
const TOLERANCES: &[(DType, f64)] = &[(DType::F32, 1e-4)];

fn has_one_operation(device: &Device) -> bool {
    *device == vulkan()
}

#[test]
fn every_bottleneck_matches_its_golden_file() {
    for file in block::FILES
        .iter()
        .filter(|file| file.starts_with("bottleneck"))
    {
        block::check_block(file, &vulkan(), DType::F32, 1e-4);
    }
}

#[test]
fn strided_blocks_match_the_plain_form() {
    for case in forms::strided_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn transposed_blocks_match_the_plain_form() {
    for case in forms::transposed_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn blocks_of_the_model_match_the_plain_form() {
    for case in forms::model_cases() {
        forms::check_on(vulkan(), case);
    }
}

#[test]
fn pointwise_layers_match_the_plain_form() {
    forms::check_pointwise(vulkan());
}

#[test]
fn a_nan_reaches_output_and_gradients() {
    forms::check_nan(vulkan());
}

#[test]
fn both_autoencoders_match_their_golden_files() {
    for (depth, file) in [
        (Depth::Depth28, "vae_depth28"),
        (Depth::Depth40, "vae_depth40"),
    ] {
        autoencoder::check_values_and_gradients(
            depth,
            file,
            vulkan(),
            DType::F32,
            &autoencoder::FLOAT32,
        );
    }
}
