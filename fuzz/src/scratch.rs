//! A file for parsers that take a path, in memory and without a name where the system can do that.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Makes `data` the whole content of this process' scratch file, and returns its path.
pub(crate) fn file(data: &[u8]) -> PathBuf {
    static SCRATCH: OnceLock<(File, PathBuf)> = OnceLock::new();
    let (file, path) = SCRATCH.get_or_init(create);
    let mut file = file;
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(data))
        .expect("a scratch file can be written");
    path.clone()
}

fn create() -> (File, PathBuf) {
    let shared_memory = Path::new("/dev/shm");
    let folder = if shared_memory.is_dir() {
        shared_memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let path = folder.join(format!("fuzz-{}", std::process::id()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .expect("a scratch file can be made");
    match path_of(&file) {
        // Reached through the open file from now on, so that a killed fuzzer leaves nothing.
        Some(open) if open.exists() => {
            fs::remove_file(&path).expect("a file of ours can be removed");
            (file, open)
        }
        _ => (file, path),
    }
}

#[cfg(target_os = "linux")]
fn path_of(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into())
}

#[cfg(not(target_os = "linux"))]
fn path_of(_: &File) -> Option<PathBuf> {
    None
}
