//! Files that are complete or absent at their final path, whatever interrupts the writer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::file_operations::{rename, sync_folder, write_synced};

/// Writes `bytes` so that `path` holds its old content or all of the new, never a part.
///
/// The bytes go to a sibling ending in `.tmp`, are synced to disk, and take the final name by a rename.
///
/// # Errors
/// Whatever the file system reports; the sibling is removed then, where it can be.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let sibling = sibling(path)?;
    let written = write_synced(&sibling, bytes)
        .and_then(|()| rename(&sibling, path))
        .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("."))));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&sibling);
    }
    written
}

fn sibling(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} names no file", path.display()),
        )
    })?;
    let mut name = name.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_and_no_sibling_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        write_atomically(&path, b"old").expect("written");
        write_atomically(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("taken");
        fs::create_dir(&path).expect("created");
        write_atomically(&path, b"new").expect_err("a folder stands there");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
