//! One file of records on disk, verified while it is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::archive::Member;
use crate::digest::{Hasher, Sha256Digest};
use crate::error::Error;
use crate::record::check;

/// Opens a member file of the right length.
pub(crate) fn open_member(member: &Member, path: PathBuf) -> Result<(File, PathBuf), Error> {
    let metadata = fs::metadata(&path).map_err(|source| Error::read(&path, source))?;
    let name = || member.name.to_string();
    if !metadata.is_file() {
        return Err(Error::NotARegularFile {
            path,
            member: name(),
        });
    }
    if metadata.len() != member.bytes {
        return Err(Error::WrongSize {
            path,
            member: name(),
            expected: member.bytes,
            found: metadata.len(),
        });
    }
    let file = File::open(&path).map_err(|source| Error::read(&path, source))?;
    Ok((file, path))
}

/// Reads a member file over `slice` and verifies it on the way.
pub(crate) fn read_member(
    member: &Member,
    mut file: File,
    path: &Path,
    slice: &mut [u8],
) -> Result<Sha256Digest, Error> {
    let wrong_size = |found: u64| Error::WrongSize {
        path: path.to_owned(),
        member: member.name.to_string(),
        expected: member.bytes,
        found,
    };
    let mut hasher = Hasher::default();
    let mut filled = 0;
    while filled < slice.len() {
        // Pieces that stay in the processor's cache between reading and hashing.
        let end = slice.len().min(filled + 256 * 1024);
        match file.read(&mut slice[filled..end]) {
            Ok(0) => return Err(wrong_size(filled as u64)),
            Ok(count) => {
                hasher.update(&slice[filled..filled + count]);
                filled += count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::read(path, source)),
        }
    }
    if file
        .read(&mut [0])
        .map_err(|source| Error::read(path, source))?
        > 0
    {
        return Err(wrong_size(member.bytes + 1));
    }
    let found = hasher.finish();
    if let Some(expected) = member.sha256.filter(|expected| *expected != found) {
        let (path, member) = (path.to_owned(), member.name.to_string());
        return Err(Error::ChecksumMismatch {
            path,
            member,
            expected,
            found,
        });
    }
    check(slice, path)?;
    Ok(found)
}
