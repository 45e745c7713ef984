//! Puts verified members in place: temporary file, sync, rename, sync of the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::extract::read_members;
use crate::{Error, Event, KnownArchive};

/// Streams a container and publishes its members as `data_dir/FOLDER/MEMBER`.
///
/// No member appears before all of them are verified, and each one appears whole.
pub(crate) fn publish_members(
    archive: &KnownArchive,
    data_dir: &Path,
    container: &Path,
    input: impl Read,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let folder = data_dir.join(&*archive.folder);
    fs::create_dir_all(&folder).map_err(|source| Error::write(&folder, source))?;
    let outcome = write_members(archive, &folder, container, input, progress);
    if outcome.is_err() {
        // Only an empty folder can be removed this way, and an empty one is of no use.
        let _ = fs::remove_dir(&folder);
    }
    outcome.map(|()| folder)
}

fn write_members(
    archive: &KnownArchive,
    folder: &Path,
    container: &Path,
    input: impl Read,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<(), Error> {
    remove_leftovers(archive, folder);
    let mut pending: Vec<Option<PendingFile>> = archive.members.iter().map(|_| None).collect();
    let total = archive.member_bytes();
    let mut bytes = 0;
    read_members(archive, container, input, &mut |index, piece| {
        let file = match &mut pending[index] {
            Some(file) => file,
            slot => slot.insert(PendingFile::create(folder, &archive.members[index].name)?),
        };
        bytes += piece.len() as u64;
        progress(&Event::Verifying { bytes, total });
        file.write(piece)
    })?;
    // All reach the disk before the first appears under its name.
    for file in pending.iter().flatten() {
        file.sync()?;
    }
    for file in pending.into_iter().flatten() {
        file.publish()?;
    }
    sync_folder(folder)?;
    progress(&Event::Published { folder });
    Ok(())
}

/// Removes what a killed process left. Only called with the lock held.
fn remove_leftovers(archive: &KnownArchive, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name
            .to_str()
            .and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"))
            .is_some_and(|name| {
                archive
                    .members
                    .iter()
                    .any(|member| name.starts_with(&*member.name))
            });
        if is_ours {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that has no name of its own yet, and vanishes when dropped.
struct PendingFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl PendingFile {
    fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|source| Error::write(&temporary, source))?;
        Ok(Self {
            file,
            temporary,
            target: folder.join(name),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|source| Error::write(&self.target, source))
    }

    fn sync(&self) -> Result<(), Error> {
        self.file
            .sync_all()
            .map_err(|source| Error::write(&self.target, source))
    }

    fn publish(self) -> Result<(), Error> {
        fs::rename(&self.temporary, &self.target)
            .map_err(|source| Error::write(&self.target, source))
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // After publishing there is nothing under this name, and an error here has no one to go to.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    // Elsewhere folders cannot be opened as files, and a rename is durable by other means.
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::write(folder, source))?;
    }
    Ok(())
}

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
