//! The libraries from another workspace, by path, with a backend that only Burn's own feature enables.

use end_to_end_tests::{Bench, cargo, workspace};

const PROGRAM: &str = r#"
use burn::prelude::*;
use resnet_blocks::StageConfig;
use vae_core::{Depth, Sampler, VaeConfig};

fn main() {
    let device = Device::flex().autodiff();
    let stage = StageConfig::new(3, 2, 1).with_stride(2).init(&device);
    let output = stage.forward(Tensor::ones([2, 3, 8, 8], &device));
    assert_eq!(output.dims(), [2, 8, 4, 4]);
    output.sum().backward();

    let config = VaeConfig::preset(Depth::Depth28).with_width_multiplier(0.02).with_latent_dim(4);
    let data = cifar_loader::Cifar10::sample().expect("the embedded sample");
    let batch = data.test().batch(&[0, 1, 2]);
    let output = config.init(&device).forward(
        batch.to_tensor(&device), Tensor::zeros([3, 4], &device), Sampler::Correct, None);
    let loss = output.terms.loss().mean();
    loss.backward();
    let loss = loss.into_scalar::<f32>();
    assert!(loss.is_finite());
    println!("loss {loss}");
    let settings = trainer::settings::Settings::default();
    println!("epochs {}", settings.epochs);
}
"#;

#[test]
fn a_program_of_another_workspace_runs_on_the_plain_form() {
    let bench = Bench::new();
    let crates = workspace().join("crates");
    let path = |name: &str| crates.join(name).display().to_string();
    // The same profile, versions and features, so that Burn itself need not be compiled again.
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).expect("a manifest");
    let profile = &manifest[manifest.find("[profile.dev]").expect("a profile")..];
    let manifest = format!(
        r#"[package]
name = "outside"
edition = "2024"

[workspace]

[dependencies]
burn = {{ version = "=0.22.1", default-features = false, features = ["std", "autodiff", "optim", "flex", "simd", "rayon", "extension", "ndarray"] }}
resnet-blocks = {{ path = "{}" }}
vae-core = {{ path = "{}" }}
cifar-loader = {{ path = "{}", features = ["burn"] }}
trainer = {{ path = "{}", default-features = false }}
# Not used: they give Burn's dependencies the features of the workspace's own build.
ciborium = "0.2"
gemm = {{ version = "0.19", default-features = false, features = ["std", "x86-v4"] }}
regex = {{ version = "1", default-features = false, features = ["std"] }}

{profile}
# Only its settings are used.
[profile.dev.package.trainer]
opt-level = 0
"#,
        path("resnet-blocks"),
        path("vae-core"),
        path("cifar-loader"),
        path("trainer"),
    );
    std::fs::create_dir(bench.path("src")).expect("created");
    std::fs::write(bench.path("Cargo.toml"), manifest).expect("written");
    std::fs::write(bench.path("src/main.rs"), PROGRAM).expect("written");
    std::fs::copy(workspace().join("Cargo.lock"), bench.path("Cargo.lock")).expect("copied");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| workspace().join("target").into());

    let output = cargo()
        .args(["run", "--quiet"])
        .current_dir(bench.path("."))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("loss ") && text.contains("epochs 1000"),
        "{text}"
    );
}
