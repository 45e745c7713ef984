//! Whether what is to be written fits on the disk, asked before anything is.

use std::path::Path;

use crate::error::Error;

/// Bytes that this user may still write on the file system of `folder`; `None` where the system does not tell.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    available(folder)
}

/// Refuses where the disk has less than `needed` bytes for `folder`, which must exist.
pub(crate) fn require(folder: &Path, needed: u64) -> Result<(), Error> {
    match available(folder) {
        Some(free) if free < needed => Err(Error::DiskFull {
            path: folder.to_owned(),
            needed,
            free,
        }),
        // A disk that does not tell is found out by writing.
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(folder).ok()?;
    // Some network file systems report nothing at all.
    (status.f_blocks > 0).then(|| status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let free = free_bytes(folder.path()).unwrap();
        require(folder.path(), free / 2).unwrap();
        let error = require(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.exit_code(), 21);
        let text = error.to_string();
        for expected in [
            folder.path().to_str().unwrap(),
            "18446744073709551615",
            "--data-dir",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_number_is_that_of_the_systems_own_program() {
        let folder = tempfile::tempdir().unwrap();
        let output = std::process::Command::new("df")
            .args(["-Pk", folder.path().to_str().unwrap()])
            .output();
        let Ok(output) = output else {
            println!("skipped: no df");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let kilobytes: u64 = text
            .lines()
            .nth(1)
            .and_then(|line| line.split_whitespace().nth(3))
            .and_then(|word| word.parse().ok())
            .unwrap();
        let found = free_bytes(folder.path()).unwrap() / 1024;
        // Others write meanwhile.
        assert!(
            found.abs_diff(kilobytes) < 1 << 20,
            "{found} against {kilobytes}"
        );
    }
}
