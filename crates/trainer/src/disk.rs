//! Full disks: noticing them before a run, and when they happen.

use std::io;
use std::path::Path;

/// Whether an error says that there is no room: a full disk, a quota, or a limit on the size of a file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Bytes that this user may still write where `path` lies, where the system tells.
pub fn available_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let status = rustix::fs::statvfs(path).ok()?;
        Some(status.f_bavail.saturating_mul(status.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Bytes in the unit that suits them.
pub(crate) fn amount(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        0.0..1e6 => format!("{:.0} kB", bytes / 1e3),
        1e6..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_quotas_and_file_limits_are_told_from_other_errors() {
        if cfg!(target_os = "linux") {
            // ENOSPC, EDQUOT, EFBIG; EIO, EACCES.
            for code in [28, 122, 27] {
                assert!(is_full(&io::Error::from_raw_os_error(code)), "{code}");
            }
            for code in [5, 13] {
                assert!(!is_full(&io::Error::from_raw_os_error(code)), "{code}");
            }
        }
    }

    #[test]
    fn a_folder_has_room_and_a_missing_one_has_no_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        if cfg!(unix) {
            assert!(available_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
        }
        assert_eq!(available_bytes(&folder.path().join("missing")), None);
        assert_eq!(amount(170_052_171), "170.1 MB");
    }
}
