//! Gets the data set over the network or from a file, and publishes its members.
//!
//! In `data_dir` there are, while this runs, `FILE.part` (what was received so far; kept when the download fails, and
//! continued by the next one) and `.FILE.lock` (so that two processes wait for each other). Afterwards there is only
//! the folder of members: the container is 170 MB that nobody needs once its members are verified.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dataset::verify_folder;
use crate::lock::FolderLock;
use crate::mirrors::from_mirrors;
use crate::publish::{publish_members, remove_leftovers};
use crate::{Error, Event, KnownArchive};

/// Where the publisher's container is found. The first is the publisher's own server, often slow; the second a copy.
pub const MIRRORS: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
];

/// Name of the environment variable that replaces [`MIRRORS`] by a list separated by commas.
pub const MIRRORS_VARIABLE: &str = "CIFAR10_MIRRORS";

/// How to download.
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadOptions {
    /// Addresses in the order of trying. Plain `http://` is used only where it is written out here.
    pub mirrors: Vec<String>,
    /// Tries at a mirror without progress before the next one; 4 by default.
    pub attempts: u32,
    /// Pause before the second try, doubled each time up to a minute; 1 second by default.
    pub backoff: Duration,
    /// Limit on looking up a name and on connecting; 15 seconds by default.
    pub connect_timeout: Duration,
    /// A connection that sends nothing for so long is given up; 30 seconds by default.
    pub stall_timeout: Duration,
    /// Bytes a second below which a mirror counts as slow; 200,000 by default.
    pub slow_bytes_per_second: f64,
    /// How long a mirror must be slow; 10 seconds by default.
    pub slow_window: Duration,
    /// How long to wait for another process that downloads into the same folder; 2 hours by default.
    pub lock_patience: Duration,
}

impl Default for DownloadOptions {
    /// The built-in [`MIRRORS`]; the environment is not read.
    fn default() -> Self {
        Self {
            mirrors: MIRRORS.iter().map(|url| (*url).to_owned()).collect(),
            attempts: 4,
            backoff: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            slow_bytes_per_second: 200_000.0,
            slow_window: Duration::from_secs(10),
            lock_patience: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// The mirrors that `CIFAR10_MIRRORS` lists, or the built-in ones when it is unset or empty.
pub fn mirrors_from_environment() -> Vec<String> {
    let listed = std::env::var(MIRRORS_VARIABLE).unwrap_or_default();
    let listed: Vec<_> = listed
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect();
    if listed.is_empty() {
        DownloadOptions::default().mirrors
    } else {
        listed
    }
}

/// Downloads `archive` into `data_dir` and returns the folder with its verified members.
///
/// Members that are already there and right are left alone; a container that somebody put into `data_dir` is used
/// before the network is, and is never removed. Everything is verified by the members' hashes, so a mirror may serve
/// a container of its own making.
///
/// # Errors
/// [`Error::DownloadFailed`] when no mirror delivers; what the mirrors sent, such as [`Error::ChecksumMismatch`] or
/// [`Error::NotGzip`], when that was the reason at every mirror; [`Error::DiskFull`] before anything is
/// written, and [`Error::Write`] for a disk that others fill meanwhile; [`Error::Locked`]; [`Error::BadUrl`].
pub fn download(
    archive: &KnownArchive,
    data_dir: &Path,
    options: &DownloadOptions,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    options.mirrors.iter().try_for_each(|url| check_url(url))?;
    with_lock(
        archive,
        data_dir,
        options.lock_patience,
        progress,
        |progress| {
            let container = data_dir.join(&*archive.file_name);
            if container.is_file() {
                match publish_file(archive, data_dir, &container, progress) {
                    Err(error @ (Error::Write { .. } | Error::DiskFull { .. })) => {
                        return Err(error);
                    }
                    Err(error) => progress(&Event::Restarting {
                        url: &container.display().to_string(),
                        reason: &error.to_string(),
                    }),
                    done => return done,
                }
            }
            from_mirrors(archive, data_dir, options, progress)
        },
    )
}

/// Publishes the members of a container `file` that was brought here by other means, for machines without network.
///
/// `file` is left as it is.
///
/// # Errors
/// Those of reading a container, [`Error::DiskFull`], [`Error::Write`] and [`Error::Locked`].
pub fn import_file(
    archive: &KnownArchive,
    data_dir: &Path,
    file: &Path,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let patience = DownloadOptions::default().lock_patience;
    // A missing file is told before anything is created.
    File::open(file).map_err(|source| Error::read(file, source))?;
    with_lock(archive, data_dir, patience, progress, |progress| {
        publish_file(archive, data_dir, file, progress)
    })
}

fn with_lock(
    archive: &KnownArchive,
    data_dir: &Path,
    patience: Duration,
    progress: &mut dyn FnMut(&Event<'_>),
    work: impl FnOnce(&mut dyn FnMut(&Event<'_>)) -> Result<PathBuf, Error>,
) -> Result<PathBuf, Error> {
    let folder = data_dir.join(&*archive.folder);
    let part = part_path(archive, data_dir);
    let is_present = verify_folder(archive, data_dir);
    if !is_present || part.exists() {
        fs::create_dir_all(data_dir).map_err(|source| Error::write(data_dir, source))?;
        let path = data_dir.join(format!(".{}.lock", archive.file_name));
        let _lock = FolderLock::acquire(path, patience, &mut |holder| {
            progress(&Event::Waiting { holder })
        })?;
        // What a killed process left; first of all, because it takes up space.
        remove_leftovers(archive, &folder);
        // Another process may have done the work while this one waited.
        if !verify_folder(archive, data_dir) {
            return work(progress);
        }
        let _ = fs::remove_file(&part);
    }
    progress(&Event::AlreadyPresent { folder: &folder });
    Ok(folder)
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
pub(crate) fn part_path(archive: &KnownArchive, data_dir: &Path) -> PathBuf {
    data_dir.join(format!("{}.part", archive.file_name))
}

fn check_url(url: &str) -> Result<(), Error> {
    let bad = |reason: &str| {
        Err(Error::BadUrl {
            url: url.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match rest {
        None => bad("another kind of address"),
        Some(rest) if rest.starts_with('/') || rest.is_empty() => bad("no host"),
        Some(_) if url.chars().any(|c| c.is_whitespace() || c.is_control()) => bad("white space"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_else() {
        for url in [
            "ftp://host/x",
            "host/x",
            "https:///x",
            "file:///etc/passwd",
            "https://a b/",
            "",
        ] {
            let error = check_url(url).unwrap_err();
            assert!(matches!(error, Error::BadUrl { .. }), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        MIRRORS.iter().for_each(|url| check_url(url).unwrap());
    }

    #[test]
    fn built_in_mirrors_are_https() {
        assert!(MIRRORS.iter().all(|url| url.starts_with("https://")));
    }
}
