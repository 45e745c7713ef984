//! What every run needs: a compiler, a disk, memory, data.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cifar_loader::{Cifar10, free_bytes};
use run_files::wording;

use super::finding::Finding;
use crate::build;

const GIGABYTE: u64 = 1_000_000_000;
/// A build of everything with its tests, and the data.
const ENOUGH_DISK: u64 = 8 * GIGABYTE;
const LEAST_DISK: u64 = 2 * GIGABYTE;
/// Two compilers of Burn at a time, and a training run of a narrow model.
const ENOUGH_MEMORY: u64 = 4 * GIGABYTE;
const LEAST_MEMORY: u64 = GIGABYTE;

/// The first line that a program prints, if it starts and ends well.
pub(super) fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(build::workspace())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.success()).then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// The compiler against `rust-toolchain.toml`.
pub(super) fn toolchain() -> Vec<Finding> {
    let wanted = fs::read_to_string(build::workspace().join("rust-toolchain.toml"))
        .ok()
        .and_then(|text| channel(&text));
    let found = first_line("rustc", &["--version"]);
    let fix = |wanted: &str| {
        format!("install rustup (https://rustup.rs), then `rustup toolchain install {wanted}`")
    };
    let name = "toolchain";
    vec![match (wanted, found) {
        (None, _) => Finding::red(
            name,
            1,
            "rust-toolchain.toml names no channel",
            "restore it: `git checkout rust-toolchain.toml`",
        ),
        (Some(wanted), None) => Finding::red(name, 1, "rustc does not start", fix(&wanted)),
        (Some(wanted), Some(found)) if found.split(' ').nth(1) == Some(&wanted) => {
            Finding::ok(name, found)
        }
        (Some(wanted), Some(found)) => Finding::red(
            name,
            1,
            format!("{found}, and rust-toolchain.toml asks for {wanted}"),
            fix(&wanted),
        ),
    }]
}

/// The version that `rust-toolchain.toml` names.
fn channel(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("channel"))?;
    let value = line.split_once('=')?.1.trim().trim_matches('"');
    Some(value.to_owned())
}

/// A C compiler, which links programs and compiles a part of TLS.
pub(super) fn linker() -> Vec<Finding> {
    if cfg!(windows) {
        return Vec::new();
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    vec![match first_line(&compiler, &["--version"]) {
        Some(version) => Finding::ok("linker", version),
        None => Finding::red(
            "linker",
            1,
            format!("`{compiler}` does not start"),
            "install a C compiler, for example `apt install gcc`",
        ),
    }]
}

pub(super) fn processors() -> Finding {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Finding::warn(
            "processors",
            "one",
            "training uses all there are; the first build takes the better part of an hour on one",
        ),
        count => Finding::ok("processors", format!("{count}")),
    }
}

/// Memory that can still be had; only Linux tells without further programs.
pub(super) fn memory() -> Vec<Finding> {
    let Some(free) = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available_memory(&text))
    else {
        return Vec::new();
    };
    let message = format!("{} available", wording::amount(free));
    let fix = "end other programs, or choose a smaller --width and --batch-size";
    vec![match free {
        ..LEAST_MEMORY => Finding::red("memory", 31, message, fix),
        LEAST_MEMORY..ENOUGH_MEMORY => Finding::warn("memory", message, fix),
        _ => Finding::ok("memory", message),
    }]
}

fn available_memory(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Space where everything is built.
pub(super) fn disk() -> Vec<Finding> {
    let Some(free) = free_bytes(build::workspace()) else {
        return Vec::new();
    };
    let message = format!(
        "{} free at {}",
        wording::amount(free),
        build::workspace().display()
    );
    let fix = "make room; `cargo clean` frees what earlier builds take";
    vec![match free {
        ..LEAST_DISK => Finding::red("disk", 21, message, fix),
        LEAST_DISK..ENOUGH_DISK => Finding::warn("disk", message, fix),
        _ => Finding::ok("disk", message),
    }]
}

/// Writes, syncs, renames and reads a file where runs will be written.
pub(super) fn writing(run_dir: &Path) -> Finding {
    let folder = nearest_folder(run_dir);
    match try_writing(&folder) {
        Ok(seconds) => Finding::ok(
            "run folder",
            format!(
                "writable, a synced file takes {:.0} ms: {}",
                seconds * 1e3,
                folder.display()
            ),
        ),
        Err(error) => Finding::red(
            "run folder",
            21,
            format!("{} cannot be written: {error}", folder.display()),
            "choose another --run-dir, or change the folder's permissions",
        ),
    }
}

/// The folder itself, or the nearest above it that exists.
fn nearest_folder(folder: &Path) -> PathBuf {
    let existing = folder.ancestors().find(|folder| folder.exists());
    match existing {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn try_writing(folder: &Path) -> std::io::Result<f64> {
    const CONTENT: &[u8] = &[0x5a; 4096];
    let start = Instant::now();
    let name = format!(".doctor-{}", std::process::id());
    let (before, after) = (folder.join(format!("{name}.tmp")), folder.join(name));
    let outcome = File::create_new(&before)
        .and_then(|mut file| file.write_all(CONTENT).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&before, &after))
        .and_then(|()| fs::read(&after));
    for path in [&before, &after] {
        // Only one of the two is there, or none.
        let _ = fs::remove_file(path);
    }
    match outcome? {
        content if content == CONTENT => Ok(start.elapsed().as_secs_f64()),
        _ => Err(std::io::Error::other("what was written does not read back")),
    }
}

/// Whether the data is there and right. All of it is hashed: 184 megabytes take a fraction of a second.
pub(super) fn data(data_dir: &Path) -> Finding {
    let start = Instant::now();
    let download = format!("cargo xtask download --data-dir {}", data_dir.display());
    match Cifar10::load(data_dir) {
        Ok(data) => Finding::ok(
            "data",
            format!(
                "{}, {} images, verified in {:.1} s: {}",
                data.name(),
                data.train().len() + data.test().len(),
                start.elapsed().as_secs_f64(),
                data.source()
            ),
        ),
        Err(cifar_loader::Error::DatasetMissing { .. }) => Finding::warn(
            "data",
            format!("none in {}; preset demo needs none", data_dir.display()),
            format!("`{download}`, or with `--from-file F` where there is no network"),
        ),
        Err(error) => Finding::red(
            "data",
            error.exit_code(),
            error.to_string(),
            format!("`{download}`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn files_of_the_system_are_read() {
        let text = "[toolchain]\nchannel = \"1.95.0\"\ncomponents = []\n";
        assert_eq!(channel(text).as_deref(), Some("1.95.0"));
        let text = "MemTotal:  100 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available_memory(text), Some(2048 * 1024));
        assert_eq!(available_memory("MemTotal: 1 kB"), None);
    }

    #[test]
    fn the_pinned_toolchain_is_the_one_that_runs_this_test() {
        assert_eq!(toolchain()[0].status, Status::Ok, "{:?}", toolchain());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_red_and_nothing_is_left_behind() {
        let folder = std::env::temp_dir().join(format!("xtask-doctor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let found = writing(&folder.join("a").join("b"));
        assert_eq!(found.status, Status::Ok, "{found:?}");
        let file = build::workspace().join("Cargo.toml");
        let found = writing(&file);
        assert_eq!((found.status, found.code), (Status::Red, 21));
        let left = fs::read_dir(&folder).unwrap();
        let mut names = left.flatten().map(|entry| entry.file_name());
        assert!(!names.any(|name| name.to_string_lossy().starts_with(".doctor")));
        fs::remove_dir_all(&folder).unwrap();
    }
}
