//! Gets the data set over the network or from a file, and publishes its members.
//!
//! In `data_dir` there are, while this runs, `FILE.part` (what was received so far; kept when the download fails, and
//! continued by the next one) and `.FILE.lock` (so that two processes wait for each other). Afterwards there is only
//! the folder of members: the container is 170 MB that nobody needs once its members are verified.

pub(crate) mod download_options;
mod lock;
mod mirrors;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod publish;
mod response;
mod transfer;
mod transfer_failure;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::KnownArchive;
use crate::dataset::verify_folder;
use crate::download::lock::FolderLock;
use crate::download::mirrors::from_mirrors;
use crate::download::progress::Event;
use crate::download::publish::{partial_path, publish_file, remove_leftovers};
use crate::error::Error;

pub use crate::download::download_options::{
    DownloadOptions, MIRRORS, MIRRORS_VARIABLE, mirrors_from_environment,
};

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
    let partial = partial_path(archive, data_dir);
    let is_present = verify_folder(archive, data_dir);
    if !is_present || partial.exists() {
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
        let _ = fs::remove_file(&partial);
    }
    progress(&Event::AlreadyPresent { folder: &folder });
    Ok(folder)
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
