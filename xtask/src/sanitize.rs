//! The kernels with unsafe code under AddressSanitizer.
//!
//! The checks lie in `crates/resnet-blocks/sanitize/`, outside the workspace, also those of `vae-core`. The sanitizer comes with the compiler, but
//! only an unstable flag turns it on.

use std::process::ExitCode;

use anyhow::Context;

use crate::build;

const RUST_FLAGS: &str = "-Zsanitizer=address";

/// Run the kernels that have unsafe code under AddressSanitizer.
///
/// Random sizes, each slice ending where the kernel's last element ends. Takes a minute, most of it compiling.
#[derive(Debug, clap::Args)]
pub(crate) struct SanitizeArgs {}

/// Builds the checks with the sanitizer and runs them.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let manifest = build::workspace().join("crates/resnet-blocks/sanitize/Cargo.toml");
    let status = build::cargo()
        // A named target keeps the sanitizer out of build scripts and macros.
        .args(["test", "--locked", "--target", &build::host()?])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(build::workspace().join("target").join("sanitize"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", RUST_FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo could not be started")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
