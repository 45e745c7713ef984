//! Puts verified members in place: temporary file, sync, rename, sync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::archive::KnownArchive;
use crate::container::extract::read_members;
use crate::download::progress::Event;
use crate::error::Error;
use crate::free_space::require;

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
    let outcome = require(&folder, archive.member_bytes())
        .and_then(|()| write_members(archive, &folder, container, input, progress));
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
pub(crate) fn remove_leftovers(archive: &KnownArchive, folder: &Path) {
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
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced
            .or_else(pass_over_unsupported)
            .map_err(|source| Error::write(folder, source))?;
    }
    Ok(())
}

/// File systems that cannot sync folders, such as CIFS and the shared folders of virtual machines, have done all that they can.
fn pass_over_unsupported(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, Unsupported};
    match error.kind() {
        // EINVAL; EOPNOTSUPP and ENOSYS.
        InvalidInput | Unsupported => Ok(()),
        _ => Err(error),
    }
}

/// Publishes the members of the container `container`.
pub(crate) fn publish_file(
    archive: &KnownArchive,
    data_dir: &Path,
    container: &Path,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let file = File::open(container).map_err(|source| Error::read(container, source))?;
    publish_members(archive, data_dir, container, file, progress)
}

/// Where the bytes that were received so far are kept.
pub(crate) fn partial_path(archive: &KnownArchive, data_dir: &Path) -> PathBuf {
    data_dir.join(format!("{}.part", archive.file_name))
}
