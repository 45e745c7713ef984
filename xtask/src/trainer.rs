//! Hands a command to the trainer's program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use run_files::run_folder::default_run_dir;
use run_files::settings::{DeviceChoice, Devices, TrainFlags, resolve};
use serde_json::Value;

use crate::build;
use crate::path_argument::at_home;
use crate::ranks;

/// Milliseconds that the trainer's allocator keeps freed memory before it gives it back to the system. A training step
/// frees hundreds of megabytes and asks for them again at once; with its default of 1,000 a step of several seconds meets them gone.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// Runs `trainer NAME FLAGS...`, built with the backend that `--device` asks for.
///
/// On Unix the program takes the place of this process, so that its signals and its exit code are the trainer's.
pub(crate) fn run(name: &str, flags: &[OsString]) -> anyhow::Result<ExitCode> {
    let (ranks, flags) = ranks::taken(name, flags)?;
    let mut features = features(name, &flags);
    if ranks.is_some() {
        features.push("mpi");
    }
    let launcher = ranks.map(ranks::launcher).transpose()?;
    let program = build::trainer(&features)?;
    let mut command = match launcher {
        Some(mut launcher) => {
            launcher.arg(program);
            launcher
        }
        None => Command::new(program),
    };
    command
        .arg(name)
        .args(&flags)
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

/// The features that `--device X` or `--device=X` asks for, or the settings of the run that is resumed, or a command that is made for
/// GPUs; flex is always in.
fn features(name: &str, flags: &[OsString]) -> Vec<&'static str> {
    let device = last_value(flags, "--device")
        .or_else(|| (name == "train").then(|| recorded_device(flags)).flatten())
        .or_else(|| (name == "gpu-check").then(|| "cuda".to_owned()));
    // A name that nothing is known of the trainer will refuse with a list of those there are.
    let devices = device.and_then(|device| device.parse::<Devices>().ok());
    let feature = devices.map(|devices| devices.main().feature());
    feature
        .filter(|feature| *feature != DeviceChoice::Flex.feature())
        .into_iter()
        .collect()
}

/// The value of the last `FLAG VALUE` or `FLAG=VALUE`.
fn last_value(flags: &[OsString], flag: &str) -> Option<String> {
    let mut value = None;
    for (index, given) in flags.iter().enumerate() {
        let given = given.to_string_lossy();
        if given == flag {
            value = flags
                .get(index + 1)
                .map(|value| value.to_string_lossy().into_owned());
        } else if let Some(given) = given.strip_prefix(flag)
            && let Some(given) = given.strip_prefix('=')
        {
            value = Some(given.to_owned());
        }
    }
    value
}

/// The device in the file of `--config`, else in the `config.json` of the run that `--resume` goes on with.
fn recorded_device(flags: &[OsString]) -> Option<String> {
    let is_resumed = flags.iter().any(|flag| {
        let flag = flag.to_string_lossy();
        flag == "--resume" || flag.starts_with("--resume=")
    });
    let of_run = || {
        let run_dir = last_value(flags, "--run-dir").or_else(|| std::env::var("OUTDIR").ok());
        let run_dir = match run_dir {
            Some(run_dir) => PathBuf::from(run_dir),
            None => newest_run(flags)?,
        };
        Some(at_home(&run_dir).join("config.json"))
    };
    let file = last_value(flags, "--config")
        .map(|file| at_home(Path::new(&file)))
        .or_else(|| is_resumed.then(of_run).flatten())?;
    let text = std::fs::read_to_string(file).ok()?;
    let settings: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    Some(settings["device"].as_str()?.to_owned())
}

/// The folder of the run that `--resume` goes on with where none is named; none where the flags are none of `train`'s, which it will say itself.
fn newest_run(flags: &[OsString]) -> Option<PathBuf> {
    let name = OsString::from("train");
    let flags = OnlyTrainFlags::try_parse_from(std::iter::once(&name).chain(flags)).ok()?;
    let resolved = resolve(&flags.flags, &|name| std::env::var(name).ok()).ok()?;
    Some(default_run_dir(Path::new(""), &resolved.settings, true))
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct OnlyTrainFlags {
    #[command(flatten)]
    flags: TrainFlags,
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
        assert_eq!(features_of(&["--device", "vulkan:0"]), ["vulkan"]);
        assert_eq!(features_of(&["--device", "cuda,cuda:1"]), ["cuda"]);
        assert_eq!(features_of(&["--device", "flex,flex"]), [""; 0]);
        assert_eq!(features_of(&["--device"]), [""; 0]);
        assert_eq!(
            features_of(&["--device", "cuda", "--device", "flex"]),
            [""; 0]
        );
    }

    #[test]
    fn a_resumed_run_without_a_folder_is_looked_for_where_the_trainer_does() {
        let of = |flags: &[&str]| {
            let flags: Vec<OsString> = flags.iter().map(OsString::from).collect();
            newest_run(&flags)
        };
        let folder = of(&["--preset", "depth40", "--resume", "--seed", "70"]);
        assert_eq!(folder, Some("runs/depth40-seed-70".into()));
        let folder = of(&["--preset=demo", "--json", "--resume=or-start"]);
        assert_eq!(folder, Some("runs/demo-seed-1".into()));
        // The trainer will say what is wrong with these.
        assert_eq!(of(&["--preset", "none", "--resume"]), None);
        assert_eq!(of(&["--no-such-flag"]), None);
    }

    #[test]
    fn a_resumed_run_decides_by_its_own_settings() {
        let folder = std::env::temp_dir().join(format!("xtask-device-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("created");
        std::fs::write(
            folder.join("config.json"),
            "\u{feff}{\"device\": \"cuda:0\"}",
        )
        .expect("written");
        let run_dir = folder.to_str().expect("text");
        let config = folder.join("config.json");
        assert_eq!(features_of(&["--run-dir", run_dir, "--resume"]), ["cuda"]);
        let equals = format!("--run-dir={run_dir}");
        assert_eq!(features_of(&["--resume=or-start", &equals]), ["cuda"]);
        assert_eq!(
            features_of(&["--config", config.to_str().expect("text")]),
            ["cuda"]
        );
        // A flag wins, and a new run knows nothing of the old one.
        assert_eq!(
            features_of(&["--run-dir", run_dir, "--resume", "--device", "flex"]),
            [""; 0]
        );
        assert_eq!(features_of(&["--run-dir", run_dir]), [""; 0]);
        assert_eq!(features_of(&["--run-dir", "nowhere", "--resume"]), [""; 0]);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
