//! What can go wrong, each cause with its path, what was expected, what was found and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Sha256Digest;

mod advice;

pub use advice::MirrorFailure;
use advice::{Download, Mirrors, Missing};

/// Every failure of this crate.
///
/// A message says where, what was expected, what was found, and ends with the next command where there is one. It holds its
/// cause, which is therefore no [`source`](std::error::Error::source) besides: one that prints both would say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data folder holds neither the member files nor the container.
    #[error(
        "{}: no CIFAR-10 here, expected `{folder}` or `{container}` in it; {}, or take the embedded sample \
         with `--data sample`",
        path.display(), Missing { path, folder }
    )]
    DatasetMissing {
        /// The data folder that was searched.
        path: PathBuf,
        /// The folder of member files that was looked for.
        folder: String,
        /// The container file that was looked for.
        container: String,
    },

    /// One member of the data set is not there.
    #[error("{}: member `{member}` is missing; run `{}` again", path.display(), Download(path))]
    MissingMember {
        /// The folder or the container that lacks it.
        path: PathBuf,
        /// The name of the member.
        member: String,
    },

    /// The Python version of CIFAR-10, whose files are pickles.
    #[error(
        "{}: expected the binary version of CIFAR-10 (data_batch_1.bin), found the Python version \
         (data_batch_1); run `{}`",
        path.display(), Download(path)
    )]
    PythonVersion {
        /// The folder or container that holds it.
        path: PathBuf,
    },

    /// The container is something else, such as the HTML page of an error.
    #[error("{}: expected a gzip archive, found {found}; run `cargo xtask download`", path.display())]
    NotGzip {
        /// The file, or the address it came from.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },

    /// The container ends in the middle of a member.
    #[error(
        "{}: archive is truncated: expected {expected} members, found {found} complete ones; \
         delete it and run `cargo xtask download`",
        path.display()
    )]
    TruncatedArchive {
        /// The container.
        path: PathBuf,
        /// Number of members the archive should hold.
        expected: usize,
        /// Number of members that were complete.
        found: usize,
    },

    /// The container cannot be inflated or its tar headers are damaged.
    #[error("{}: archive is damaged ({reason}); delete it and run `cargo xtask download`", path.display())]
    CorruptArchive {
        /// The container.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },

    /// The container is larger than the data set it should hold.
    #[error("{}: archive holds more than {limit} {what}, expected `{archive}`; run `cargo xtask download`", path.display())]
    ArchiveLimit {
        /// The container.
        path: PathBuf,
        /// The archive that was expected.
        archive: String,
        /// The largest number allowed.
        limit: u64,
        /// What was counted.
        what: &'static str,
    },

    /// A member stands twice in the container.
    #[error("{}: member `{member}` occurs twice; run `cargo xtask download`", path.display())]
    DuplicateMember {
        /// The container.
        path: PathBuf,
        /// The name of the member.
        member: String,
    },

    /// A member of the container is a link, a device or a sparse file.
    #[error("{}: member `{member}` is not a regular file; run `cargo xtask download`", path.display())]
    NotARegularFile {
        /// The container or the file.
        path: PathBuf,
        /// The name of the member.
        member: String,
    },

    /// A file or member has the wrong length.
    #[error(
        "{}: {} has {found} bytes, expected {expected}{}; run `{}`",
        path.display(), member, if found < expected { " (truncated)" } else { "" }, Download(path)
    )]
    WrongSize {
        /// The file, or the container.
        path: PathBuf,
        /// The name of the member.
        member: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },

    /// A file or member has the right length and the wrong content.
    #[error(
        "{}: {member} has sha256 {found}, expected {expected}; delete it and run `{}`",
        path.display(), Download(path)
    )]
    ChecksumMismatch {
        /// The file, or the container.
        path: PathBuf,
        /// The name of the member.
        member: String,
        /// The hash it should have.
        expected: Sha256Digest,
        /// The hash it has.
        found: Sha256Digest,
    },

    /// Bytes end in the middle of a record.
    #[error(
        "{}: record at offset {offset} has {found} bytes, expected {}; run `{}`",
        path.display(), crate::image_format::RECORD_BYTES, Download(path)
    )]
    TruncatedRecord {
        /// The file.
        path: PathBuf,
        /// Byte offset of the record.
        offset: u64,
        /// Bytes left for it.
        found: usize,
    },

    /// A label byte above 9.
    #[error(
        "{}: label at offset {offset} is {found}, expected 0 to 9; run `{}`",
        path.display(), Download(path)
    )]
    LabelOutOfRange {
        /// The file.
        path: PathBuf,
        /// Byte offset of the label.
        offset: u64,
        /// The label that stands there.
        found: u8,
    },

    /// A limit leaves no image in a split.
    #[error(
        "the {split} split would be empty: expected at least one image; use a limit of 1 or more"
    )]
    EmptySplit {
        /// The split.
        split: crate::split_name::Split,
    },

    /// An address that is neither `https://` nor an explicit `http://`.
    #[error("`{url}`: not a usable address: expected https://HOST/PATH, found {reason}")]
    BadUrl {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// No mirror gave the archive. What was received is kept and resumed by the next try.
    #[error(
        "{}: download failed after {received} bytes, tried {}; run `cargo xtask download` again to resume, \
         `--url U` for another mirror, or `--from-file F` for a copy made elsewhere",
        path.display(), Mirrors(failures)
    )]
    DownloadFailed {
        /// The partial file.
        path: PathBuf,
        /// Bytes in the partial file.
        received: u64,
        /// The last failure of each mirror, in the order of trying.
        failures: Vec<MirrorFailure>,
    },

    /// Another process is downloading into the same folder and did not end.
    #[error(
        "{}: another download{} is at work in this folder; wait for it, or choose another --data-dir",
        path.display(), holder.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where it could be read.
        holder: Option<u32>,
    },

    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        r#source: io::Error,
    },

    /// There is less space than what is to be written.
    #[error(
        "{}: needs {needed} bytes of disk space, {free} are free; free space or choose another --data-dir, \
         then run `cargo xtask download` again",
        path.display()
    )]
    DiskFull {
        /// The data folder.
        path: PathBuf,
        /// Bytes that will be written.
        needed: u64,
        /// Bytes that may still be written there.
        free: u64,
    },

    /// A file cannot be written, for example because the disk is full.
    #[error("{}: cannot be written: {source}; free space or choose another --data-dir, then run `cargo xtask download` again", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        r#source: io::Error,
    },
}

impl Error {
    /// The exit code of a program that ends with this error: 2 usage, 10 network, 11 checksum, 12 data set, 21 disk.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BadUrl { .. } | Self::EmptySplit { .. } => 2,
            Self::DownloadFailed { .. } => 10,
            Self::ChecksumMismatch { .. } => 11,
            Self::Write { .. } | Self::DiskFull { .. } | Self::Locked { .. } => 21,
            _ => 12,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_path_both_values_and_the_next_command() {
        let error = Error::WrongSize {
            path: "d/x.tar.gz".into(),
            member: "test_batch.bin".into(),
            expected: 30,
            found: 29,
        };
        let text = error.to_string();
        for expected in [
            "d/x.tar.gz",
            "test_batch.bin",
            "29",
            "30",
            "truncated",
            "cargo xtask download",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_failed_download_lists_every_mirror() {
        let failure = |url: &str| MirrorFailure {
            url: url.into(),
            reason: "HTTP 404".into(),
        };
        let error = Error::DownloadFailed {
            path: "d/x.part".into(),
            received: 5,
            failures: vec![failure("https://a/x"), failure("https://b/x")],
        };
        assert_eq!(error.exit_code(), 10);
        let text = error.to_string();
        assert!(
            text.contains("https://a/x (HTTP 404); https://b/x (HTTP 404)"),
            "{text}"
        );
    }
}
