//! Reads the known members out of a container, as a stream.
//!
//! Names in the container are only ever compared with the table of members; none becomes a path. Extended headers
//! (long names, PAX) are passed over like any other entry, so what they claim about names and sizes has no effect.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::archive::{KnownArchive, MAX_ENTRIES};
use crate::digest::{Hasher, Sha256Digest};
use crate::error::Error;

const CHUNK: usize = 64 * 1024;

/// Takes the next bytes of the member with that index.
pub(crate) type MemberSink<'a> = dyn FnMut(usize, &[u8]) -> Result<(), Error> + 'a;

/// Streams `input` and hands the members' bytes to `sink(member index, bytes)`, in pieces and in the container's order.
///
/// `path` names the container in errors. What `sink` received counts only when this returns `Ok`: then every member
/// came once, whole, and with its hash. The digests are in the order of the member table.
pub(crate) fn read_members(
    archive: &KnownArchive,
    path: &Path,
    input: impl Read,
    sink: &mut MemberSink<'_>,
) -> Result<Vec<Sha256Digest>, Error> {
    let mut input = BufReader::with_capacity(CHUNK, input);
    let start = peek(&mut input).map_err(|source| Error::read(path, source))?;
    let is_gzip = is_gzip(start);
    if !is_gzip && !is_plain_tar(start) {
        return Err(Error::NotGzip {
            path: path.to_owned(),
            found: describe(start),
        });
    }
    if is_gzip {
        read_tar(archive, path, MultiGzDecoder::new(input), sink)
    } else {
        read_tar(archive, path, input, sink)
    }
}

fn read_tar(
    archive: &KnownArchive,
    path: &Path,
    input: impl Read,
    sink: &mut MemberSink<'_>,
) -> Result<Vec<Sha256Digest>, Error> {
    let mut digests: Vec<Option<Sha256Digest>> = vec![None; archive.members.len()];
    let complete = |digests: &[Option<Sha256Digest>]| digests.iter().flatten().count();
    let failed = |error: io::Error, digests: &[Option<Sha256Digest>]| {
        stream_error(error, archive, path, complete(digests))
    };
    let mut tar = tar::Archive::new(Capped {
        input,
        left: archive.max_bytes(),
    });
    let mut num_entries = 0;
    let mut is_python_version = false;
    let mut buffer = vec![0; CHUNK];
    let entries = tar
        .entries()
        .map_err(|error| failed(error, &digests))?
        .raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|error| failed(error, &digests))?;
        num_entries += 1;
        if num_entries > MAX_ENTRIES {
            return Err(limit_error(archive, path, MAX_ENTRIES, "entries"));
        }
        let name = entry.header().path_bytes();
        is_python_version |= name.starts_with(b"cifar-10-batches-py");
        let Some(index) = archive.member_at(&name) else {
            continue;
        };
        let member = &archive.members[index];
        let named = || (path.to_owned(), member.name.to_string());
        if !entry.header().entry_type().is_file() {
            let (path, member) = named();
            return Err(Error::NotARegularFile { path, member });
        }
        if entry.size() != member.bytes {
            let (path, name) = named();
            return Err(Error::WrongSize {
                path,
                member: name,
                expected: member.bytes,
                found: entry.size(),
            });
        }
        if digests[index].is_some() {
            let (path, member) = named();
            return Err(Error::DuplicateMember { path, member });
        }
        let mut hasher = Hasher::default();
        let mut received = 0;
        loop {
            let count = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error, &digests)),
            };
            hasher.update(&buffer[..count]);
            received += count as u64;
            sink(index, &buffer[..count])?;
        }
        if received != member.bytes {
            return Err(truncated(archive, path, complete(&digests)));
        }
        let found = hasher.finish();
        if let Some(expected) = member.sha256.filter(|expected| *expected != found) {
            let (path, member) = named();
            return Err(Error::ChecksumMismatch {
                path,
                member,
                expected,
                found,
            });
        }
        digests[index] = Some(found);
    }
    // The end of the stream carries the container's own checksum, which is all there is for members without a hash.
    if archive.members.iter().any(|member| member.sha256.is_none()) {
        let mut rest = tar.into_inner();
        while rest
            .read(&mut buffer)
            .map_err(|error| failed(error, &digests))?
            > 0
        {}
    }
    let missing = digests.iter().position(Option::is_none);
    match missing {
        Some(_) if is_python_version => Err(Error::PythonVersion {
            path: path.to_owned(),
        }),
        Some(index) => {
            let member = archive.members[index].name.to_string();
            Err(Error::MissingMember {
                path: path.to_owned(),
                member,
            })
        }
        None => Ok(digests.into_iter().flatten().collect()),
    }
}

fn stream_error(error: io::Error, archive: &KnownArchive, path: &Path, complete: usize) -> Error {
    if error
        .get_ref()
        .is_some_and(|inner| inner.is::<CapReached>())
    {
        return limit_error(archive, path, archive.max_bytes(), "bytes");
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return truncated(archive, path, complete);
    }
    if error.raw_os_error().is_some() {
        return Error::read(path, error);
    }
    Error::CorruptArchive {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn limit_error(archive: &KnownArchive, path: &Path, limit: u64, what: &'static str) -> Error {
    Error::ArchiveLimit {
        path: path.to_owned(),
        archive: archive.file_name.to_string(),
        limit,
        what,
    }
}

fn truncated(archive: &KnownArchive, path: &Path, found: usize) -> Error {
    Error::TruncatedArchive {
        path: path.to_owned(),
        expected: archive.members.len(),
        found,
    }
}

/// The first bytes without taking them; 512 where the input has them and gives them at once.
fn peek<R: Read>(input: &mut BufReader<R>) -> io::Result<&[u8]> {
    loop {
        match input.fill_buf() {
            Ok(_) => return Ok(input.buffer()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether `start` begins like a gzip file.
pub(crate) fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// Some browsers inflate a download and keep its name.
fn is_plain_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

/// What a file looks like that is no archive.
pub(crate) fn describe(start: &[u8]) -> String {
    let text = start.trim_ascii_start();
    if start.is_empty() {
        "an empty file".to_owned()
    } else if text.starts_with(b"<") {
        "an HTML page".to_owned()
    } else if start.starts_with(b"PK") {
        "a zip file".to_owned()
    } else if start.starts_with(&[0x80]) {
        "a Python pickle".to_owned()
    } else {
        let bytes: Vec<_> = start
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("bytes {}", bytes.join(" "))
    }
}

/// A reader that fails when more than `left` bytes are asked of it.
struct Capped<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !out.is_empty() {
            // The end of the input exactly at the cap is no excess.
            return match self.input.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other(CapReached)),
            };
        }
        let allowed = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let count = self.input.read(&mut out[..allowed])?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[derive(Debug)]
struct CapReached;

impl fmt::Display for CapReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more bytes than the data set has")
    }
}

impl std::error::Error for CapReached {}
