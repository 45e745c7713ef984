//! The operations on files that a save is made of.
//!
//! They are here, and nowhere else, so that a test can make each of them fail in turn.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
pub(crate) mod failing;

/// Creates a folder and those above it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    may_fail("create folder")?;
    fs::create_dir_all(path)
}

/// Opens a file that this program writes; one that is a symbolic link is refused, wherever it leads.
pub fn open_no_link(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options.open(path)
}

/// Takes a lock that no other process has. `Ok(false)` where the file system has no locks at all: NFS without its lock
/// service, some mounts of containers.
///
/// # Errors
/// [`TryLockError::WouldBlock`] where another process holds it.
pub fn try_lock(file: &File) -> Result<bool, TryLockError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error says that the file system cannot do such a thing, rather than that it failed.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let unsupported = [
            Errno::NOLCK,
            Errno::OPNOTSUPP,
            Errno::NOTSUP,
            Errno::NOSYS,
            Errno::INVAL,
        ];
        Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::Unsupported
    }
}

/// Writes a new file, or over an old one, and waits until the disk has it. Nothing is written through a symbolic link.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    may_fail("create")?;
    let mut options = OpenOptions::new();
    let mut file = open_no_link(options.write(true).create(true).truncate(true), path)?;
    #[cfg(test)]
    failing::before_write(&mut file, bytes)?;
    file.write_all(bytes)?;
    may_fail("sync")?;
    file.sync_all()
}

/// Opens a file of a run folder to be read. A pipe, on which nobody may ever write, and a device, which may never end, are
/// refused: a folder that was handed over may hold them.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    File::open(path)
}

/// Reads a file, at most one byte more than it should have.
pub fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    may_fail("read")?;
    let mut content = Vec::new();
    let file = open_regular(path)?;
    file.take(bytes.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Gives a file or a folder another name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_fail("rename")?;
    fs::rename(from, to)
}

/// Removes a folder with all that is in it, or what else has its name; one that is not there is fine.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    may_fail("remove")?;
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a file system was met that cannot make new names durable.
static LACKS_FOLDER_SYNC: AtomicBool = AtomicBool::new(false);

/// Whether a file system was met in which a crash of the machine may lose new names of files: it syncs no folders.
pub fn lacks_folder_sync() -> bool {
    LACKS_FOLDER_SYNC.load(Ordering::Relaxed)
}

/// Makes the renames and new names in `folder` durable, where the file system can.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    may_fail("sync folder")?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    // Only Unix opens folders as files; elsewhere the rename itself must do.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // CIFS, shared folders of virtual machines: all that can be done there has been done.
        Err(error) if is_unsupported(&error) => {
            LACKS_FOLDER_SYNC.store(true, Ordering::Relaxed);
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(not(test))]
fn may_fail(_operation: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use failing::may_fail;
