//! Full disks: telling them from other errors.

use std::io;

/// Whether an error says that there is no room: a full disk, a quota, or a limit on the size of a file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Bytes in the unit that suits them.
pub fn amount(bytes: u64) -> String {
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
    fn amounts_have_the_unit_that_suits_them() {
        assert_eq!(amount(999), "1 kB");
        assert_eq!(amount(170_052_171), "170.1 MB");
        assert_eq!(amount(24_000_000_000), "24.0 GB");
    }
}
