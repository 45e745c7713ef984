//! A file that a user named for a command's result.
//!
//! A file of a run is put in place by a rename, whatever stands there. A name that a user gives may be a link, whose target is meant,
//! or a pipe or a device, which a rename would replace: nothing is written beside those.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::files::file_operations::{rename, sync_folder};

/// Links that are followed one after another.
const MOST_LINKS: usize = 40;

/// A result that is being written: complete under its name once it is [finished](Self::finish), and not there otherwise, but for
/// what has no name to take back, as a pipe.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    /// Where the bytes are until they are complete, and where they belong; none where they go to their place at once.
    places: Option<[PathBuf; 2]>,
}

impl OutputFile {
    /// Begins the file.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        // By the system's own way along the links: `/dev/stdout` leads to a pipe that has no name of its own.
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path)?;
                return Ok(Self {
                    file: BufWriter::new(file),
                    places: None,
                });
            }
            _ => {}
        }
        let target = followed(path)?;
        let Some(name) = target.file_name() else {
            let reason = format!("{} names no file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let mut name = name.to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let sibling = target.with_file_name(name);
        // One of that name is left from a process that had this one's number, or is not ours.
        let _ = fs::remove_file(&sibling);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&sibling)?;
        Ok(Self {
            file: BufWriter::new(file),
            places: Some([sibling, target]),
        })
    }

    /// Puts the complete file in its place.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some([sibling, target]) = &self.places else {
            return Ok(());
        };
        self.file.get_ref().sync_all()?;
        rename(sibling, target)?;
        sync_folder(target.parent().unwrap_or(Path::new(".")))?;
        self.places = None;
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some([sibling, _]) = &self.places {
            // The error that ended the work is the one to report.
            let _ = fs::remove_file(sibling);
        }
    }
}

/// Writes a whole result.
///
/// # Errors
/// Where the system refuses.
pub fn write_output(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// What a path stands for at the end of its links, which need not be there yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let is_link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        if !is_link {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        // `join` takes an absolute target as it is.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(io::Error::other("too many links"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_and_their_targets_are_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("elsewhere")).expect("created");
        fs::write(path("elsewhere/old"), b"old").expect("written");
        symlink("elsewhere/old", path("first")).expect("linked");
        symlink("first", path("second")).expect("linked");
        symlink("elsewhere/missing", path("dangling")).expect("linked");
        write_output(&path("second"), b"new").expect("written");
        write_output(&path("dangling"), b"made").expect("written");
        assert_eq!(fs::read(path("elsewhere/old")).expect("readable"), b"new");
        assert_eq!(
            fs::read(path("elsewhere/missing")).expect("readable"),
            b"made"
        );
        for link in ["first", "second", "dangling"] {
            let metadata = fs::symlink_metadata(path(link)).expect("there");
            assert!(metadata.is_symlink(), "{link}");
        }
        symlink("loop", path("loop")).expect("linked");
        write_output(&path("loop"), b"x").expect_err("a loop");
        assert_eq!(fs::read_dir(path("elsewhere")).expect("listed").count(), 2);
    }

    #[test]
    fn what_is_given_up_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, b"old").expect("written");
        let mut file = OutputFile::create(&path).expect("begun");
        file.write_all(b"half").expect("written");
        drop(file);
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        write_output(folder.path(), b"x").expect_err("a folder");
    }
}
