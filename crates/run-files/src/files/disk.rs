//! Full disks: telling them from other errors.

use std::io;

pub use crate::wording::amount;

/// Whether an error says that there is no room: a full disk, a quota, or a limit on the size of a file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
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
}
