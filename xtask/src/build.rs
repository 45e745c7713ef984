//! Builds the trainer's program with the backends a command needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, bail};
use serde_json::Value;

/// The folder of the workspace.
///
/// Cargo names the folder of what it runs. Elsewhere it is the folder of the build, which differs where two clones
/// share a target folder, and the program was built for the other.
pub(crate) fn workspace() -> &'static Path {
    static WORKSPACE: OnceLock<PathBuf> = OnceLock::new();
    WORKSPACE.get_or_init(|| {
        let run = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = run
            .filter(|folder| folder.ends_with("xtask") && folder.join("Cargo.toml").is_file())
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let workspace = package.parent();
        workspace
            .expect("xtask lies in the workspace's folder")
            .to_owned()
    })
}

/// The compiler's name for this machine's kind, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(workspace())
        .output()
        .context("rustc could not be started")?;
    let version = String::from_utf8_lossy(&output.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Cargo, to be given a command, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo set these for xtask itself; build scripts would take them for a change and compile again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace());
    command
}

/// Builds the trainer with these features besides its default ones, where anything changed, and returns the program.
///
/// Cargo itself says where the program lies, so that `CARGO_TARGET_DIR` and every other setting of Cargo's holds.
pub(crate) fn trainer(features: &[&str]) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    let output = command
        .args([
            "build",
            "--package",
            "trainer",
            "--bin",
            "trainer",
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(["--features", &features.join(",")])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo could not be started")?;
    if !output.status.success() {
        bail!("the trainer could not be built; cargo's messages stand above");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    program.context("cargo built the trainer and did not say where it is")
}
