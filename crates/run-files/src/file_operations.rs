//! The operations on files that a save is made of.
//!
//! They are here, and nowhere else, so that a test can make each of them fail in turn.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

#[cfg(test)]
pub(crate) mod failing;

/// Creates a folder and those above it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    may_fail("create folder")?;
    fs::create_dir_all(path)
}

/// Writes a new file, or over an old one, and waits until the disk has it.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    may_fail("create")?;
    let mut file = File::create(path)?;
    #[cfg(test)]
    failing::before_write(&mut file, bytes)?;
    file.write_all(bytes)?;
    may_fail("sync")?;
    file.sync_all()
}

/// Reads a file, at most one byte more than it should have.
pub fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    may_fail("read")?;
    let mut content = Vec::new();
    let file = File::open(path)?;
    file.take(bytes.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Gives a file or a folder another name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_fail("rename")?;
    fs::rename(from, to)
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    may_fail("remove")?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the renames and new names in `folder` durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    may_fail("sync folder")?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    // Only Unix opens folders as files; elsewhere the rename itself must do.
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(not(test))]
fn may_fail(_operation: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use failing::may_fail;
