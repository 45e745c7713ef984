//! Hands a command to the trainer's program.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::build;

/// Milliseconds that the trainer's allocator keeps freed memory before it gives it back to the system. A training step
/// frees hundreds of megabytes and asks for them again at once, so its default of 10 costs thousands of page faults.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Runs `trainer NAME FLAGS...`, built with the backend that `--device` asks for.
///
/// On Unix the program takes the place of this process, so that its signals and its exit code are the trainer's.
pub(crate) fn run(name: &str, flags: &[OsString]) -> anyhow::Result<ExitCode> {
    let program = build::trainer(&features(name, flags))?;
    let mut command = Command::new(program);
    command
        .arg(name)
        .args(flags)
        .env("RESNET_VAE_COMMIT", commit());
    if std::env::var_os(PURGE_DELAY).is_none() {
        command.env(PURGE_DELAY, "10000");
    }
    start(command)
}

#[cfg(unix)]
fn start(mut command: Command) -> anyhow::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    // Returns only where the program could not be started.
    Err(command.exec().into())
}

#[cfg(not(unix))]
fn start(mut command: Command) -> anyhow::Result<ExitCode> {
    let code = command.status()?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The features that `--device X` or `--device=X` asks for, or a command that is made for GPUs; flex is always in.
fn features(name: &str, flags: &[OsString]) -> Vec<&'static str> {
    let mut device = (name == "gpu-check").then(|| "cuda".to_owned());
    for (index, flag) in flags.iter().enumerate() {
        let flag = flag.to_string_lossy();
        if flag == "--device" {
            device = flags
                .get(index + 1)
                .map(|value| value.to_string_lossy().into_owned());
        } else if let Some(value) = flag.strip_prefix("--device=") {
            device = Some(value.to_owned());
        }
    }
    match device
        .as_deref()
        .map(|device| device.split([':', ',']).next().unwrap_or(device))
    {
        Some("ndarray") => vec!["ndarray"],
        Some("cuda") => vec!["cuda"],
        // Flex, or a name that the trainer will refuse with a list of those there are.
        _ => vec![],
    }
}

/// The checkout's commit, with `-dirty` where files differ from it; empty where this is no checkout.
fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(build::workspace())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features_of(flags: &[&str]) -> Vec<&'static str> {
        features(
            "train",
            &flags.iter().map(OsString::from).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_check_of_gpus_is_built_for_them_unless_it_says_otherwise() {
        assert_eq!(features("gpu-check", &[]), ["cuda"]);
        let flags = ["--device", "flex"].map(OsString::from);
        assert_eq!(features("gpu-check", &flags), [""; 0]);
    }

    #[test]
    fn the_device_decides_which_backend_is_built() {
        assert_eq!(features_of(&["--depth", "28"]), [""; 0]);
        assert_eq!(
            features_of(&["--device", "cuda:1", "--depth", "28"]),
            ["cuda"]
        );
        assert_eq!(features_of(&["--device=ndarray"]), ["ndarray"]);
        assert_eq!(features_of(&["--device", "cuda,cuda:1"]), ["cuda"]);
        assert_eq!(features_of(&["--device", "flex,flex"]), [""; 0]);
        assert_eq!(features_of(&["--device"]), [""; 0]);
        assert_eq!(
            features_of(&["--device", "cuda", "--device", "flex"]),
            [""; 0]
        );
    }
}
