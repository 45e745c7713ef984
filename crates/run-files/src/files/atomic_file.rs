//! Files that are complete or absent at their final path, whatever interrupts the writer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::file_operations::{rename, sync_folder, write_synced};

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

/// Removes what writers of these files, which no process writes now, have left unfinished in a folder. What cannot be removed harms nothing.
pub fn remove_unfinished(folder: &Path, is_written: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let written = name
            .to_str()
            .and_then(|name| name.strip_suffix(".tmp"))
            .and_then(|name| name.rsplit_once('.'))
            .filter(|(_, process)| process.parse::<u32>().is_ok())
            .map(|(name, _)| name);
        if written.is_some_and(&is_written) {
            let _ = fs::remove_file(entry.path());
        }
    }
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
    fn what_killed_writers_left_is_removed_by_its_exact_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = [
            "state.json.77.tmp",
            "state.json",
            "state.json.x.tmp",
            "mine.json.77.tmp",
            "state.json.tmp",
        ];
        for name in names {
            fs::write(folder.path().join(name), b"").expect("written");
        }
        remove_unfinished(folder.path(), |name| name == "state.json");
        for (name, stays) in names.into_iter().zip([false, true, true, true, true]) {
            assert_eq!(folder.path().join(name).exists(), stays, "{name}");
        }
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
