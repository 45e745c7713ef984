//! One process at a time in a data folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;

/// One process at a time works on a data folder. The file goes away with the lock.
pub(crate) struct FolderLock {
    _file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Waits at most `patience` for other processes; calls `waiting` once with the holder.
    pub(crate) fn acquire(
        path: PathBuf,
        patience: Duration,
        waiting: &mut dyn FnMut(Option<u32>),
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let mut is_announced = false;
        loop {
            remove_link(&path)?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|source| Error::write(&path, source))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                // The holder before us may have removed the file after we opened it.
                Ok(()) if !is_same_file(&file, &path) => continue,
                // File systems without locks still get verified files; two downloads there only waste bytes.
                Ok(()) | Err(TryLockError::Error(_)) => {
                    let _ = file
                        .set_len(0)
                        .and_then(|()| write!(&file, "{}", std::process::id()));
                    return Ok(Self { _file: file, path });
                }
            }
            let holder = fs::read_to_string(&path)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            if !is_announced {
                is_announced = true;
                waiting(holder);
            }
            if start.elapsed() >= patience {
                return Err(Error::Locked { path, holder });
            }
            std::thread::sleep(Duration::from_millis(100).min(patience));
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed while still held: whoever opened it before sees that its name is gone and opens the next one.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes `path` when it is a symbolic link, so that nothing is written through it.
pub(crate) fn remove_link(path: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        fs::remove_file(path).map_err(|source| Error::write(path, source))?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|m| (m.dev(), m.ino()));
    identity(file.metadata()) == identity(fs::metadata(path))
}

#[cfg(not(unix))]
fn is_same_file(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_goes_away_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let lock = FolderLock::acquire(path.clone(), Duration::ZERO, &mut |_| {}).unwrap();
        let mut holder = None;
        let patience = Duration::from_millis(150);
        let error = FolderLock::acquire(path.clone(), patience, &mut |id| holder = id)
            .err()
            .unwrap();
        assert_eq!(holder, Some(std::process::id()));
        assert!(
            matches!(
                error,
                Error::Locked {
                    holder: Some(_),
                    ..
                }
            ),
            "{error}"
        );
        drop(lock);
        assert!(!path.exists());
        FolderLock::acquire(path, Duration::ZERO, &mut |_| {}).unwrap();
    }

    #[test]
    fn only_one_of_many_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let counter = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let _lock =
                        FolderLock::acquire(path.clone(), Duration::from_secs(20), &mut |_| {})
                            .unwrap();
                    assert_eq!(counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::sleep(Duration::from_millis(5));
                    counter.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
        });
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_never_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "keep").unwrap();
        let path = folder.path().join(".lock");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        drop(FolderLock::acquire(path, Duration::ZERO, &mut |_| {}).unwrap());
        assert_eq!(fs::read_to_string(victim).unwrap(), "keep");
    }
}
