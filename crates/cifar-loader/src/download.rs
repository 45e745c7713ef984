//! Gets the data set over the network or from a file, and publishes its members.
//!
//! In `data_dir` there are, while this runs, `FILE.part` (what was received so far; kept when the download fails, and
//! continued by the next one) and `.FILE.lock` (so that two processes wait for each other). Afterwards there is only
//! the folder of members: the container is 170 MB that nobody needs once its members are verified.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dataset::verify_folder;
use crate::publish::{FolderLock, publish_members};
use crate::transfer::{Failure, Remote, Terms, agent, fetch_rest};
use crate::{Error, Event, KnownArchive, MirrorFailure};

/// Where the publisher's container is found. The first is the publisher's own server, often slow; the second a copy.
pub const MIRRORS: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
];

/// Name of the environment variable that replaces [`MIRRORS`] by a list separated by commas.
pub const MIRRORS_VARIABLE: &str = "CIFAR10_MIRRORS";

/// A new start counts as progress, and refills the tries, only beyond this many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Requests to one mirror, whatever progress they make.
const MAX_REQUESTS: u32 = 100;
const MAX_DELAY: Duration = Duration::from_secs(60);

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
/// [`Error::NotGzip`], when that was the reason at every mirror; [`Error::Write`] for a full disk;
/// [`Error::Locked`]; [`Error::BadUrl`].
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
                    Err(error @ Error::Write { .. }) => return Err(error),
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
/// Those of reading a container, [`Error::Write`] and [`Error::Locked`].
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
    if !verify_folder(archive, data_dir) {
        fs::create_dir_all(data_dir).map_err(|source| Error::write(data_dir, source))?;
        let path = data_dir.join(format!(".{}.lock", archive.file_name));
        let _lock = FolderLock::acquire(path, patience, &mut |holder| {
            progress(&Event::Waiting { holder })
        })?;
        // Another process may have done the work while this one waited.
        if !verify_folder(archive, data_dir) {
            return work(progress);
        }
    }
    progress(&Event::AlreadyPresent { folder: &folder });
    Ok(folder)
}

fn publish_file(
    archive: &KnownArchive,
    data_dir: &Path,
    container: &Path,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let file = File::open(container).map_err(|source| Error::read(container, source))?;
    publish_members(archive, data_dir, container, file, progress)
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

/// A mirror in the queue, with its rate when it was left for being slow.
struct Candidate<'a> {
    url: &'a str,
    slow_rate: Option<f64>,
}

fn from_mirrors(
    archive: &KnownArchive,
    data_dir: &Path,
    options: &DownloadOptions,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let part = data_dir.join(format!("{}.part", archive.file_name));
    let mut fresh: VecDeque<&str> = options.mirrors.iter().map(String::as_str).collect();
    let mut slow: Vec<Candidate<'_>> = Vec::new();
    let mut failures: Vec<MirrorFailure> = Vec::new();
    let mut content_errors: Vec<Error> = Vec::new();
    loop {
        // Untried mirrors first, then the fastest of those that were left for being slow.
        slow.sort_by(|a, b| {
            b.slow_rate
                .unwrap_or(0.0)
                .total_cmp(&a.slow_rate.unwrap_or(0.0))
        });
        let candidate = match fresh.pop_front() {
            Some(url) => Candidate {
                url,
                slow_rate: None,
            },
            None if slow.is_empty() => break,
            None => slow.remove(0),
        };
        let url = candidate.url;
        let next = fresh.front().copied();
        let mut terms = Terms {
            options,
            known_total: archive.container.map(|container| container.bytes),
            max_bytes: archive.max_bytes(),
            next,
            is_slow_announced: candidate.slow_rate.is_some(),
        };
        let reason = match from_mirror(archive, data_dir, url, &part, &mut terms, progress) {
            Ok(folder) => return Ok(folder),
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Slow { rate }) => {
                slow.push(Candidate {
                    url,
                    slow_rate: Some(rate),
                });
                continue;
            }
            Err(Failure::Content(error)) => {
                let reason = error.to_string();
                content_errors.push(error);
                reason
            }
            Err(Failure::Permanent { reason } | Failure::Transient { reason, .. }) => reason,
        };
        let next = next.or(slow.first().map(|candidate| candidate.url));
        progress(&Event::GivingUp {
            url,
            reason: &reason,
            next,
        });
        failures.push(MirrorFailure {
            url: url.to_owned(),
            reason,
        });
    }
    let received = fs::metadata(&part).map_or(0, |metadata| metadata.len());
    if received == 0 {
        let _ = fs::remove_file(&part);
    }
    match content_errors.pop() {
        Some(error) if content_errors.len() + 1 == failures.len() => Err(error),
        _ => Err(Error::DownloadFailed {
            path: part,
            received,
            failures,
        }),
    }
}

/// Tries one mirror until its container is complete, and publishes the members.
fn from_mirror(
    archive: &KnownArchive,
    data_dir: &Path,
    url: &str,
    part: &Path,
    terms: &mut Terms<'_>,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Failure> {
    let agent = agent(url, terms.options);
    let part_bytes = || fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut remote = Remote::default();
    let mut best = part_bytes();
    let mut tries_left = terms.options.attempts.max(1);
    let mut delay = terms.options.backoff;
    // Bytes from an earlier run may be what makes the whole wrong; a container from one go has no such excuse.
    let mut is_resumed = best > 0;
    for attempt in 1..=MAX_REQUESTS {
        let (reason, retry_after) =
            match fetch_rest(&agent, url, part, &mut remote, terms, attempt, progress) {
                Ok(()) => match publish_file(archive, data_dir, part, progress) {
                    Ok(folder) => {
                        let _ = fs::remove_file(part);
                        return Ok(folder);
                    }
                    Err(error @ Error::Write { .. }) => return Err(Failure::Local(error)),
                    Err(error) => {
                        fs::remove_file(part)
                            .map_err(|source| Failure::Local(Error::write(part, source)))?;
                        if !is_resumed {
                            return Err(Failure::Content(named(error, url)));
                        }
                        is_resumed = false;
                        best = 0;
                        remote = Remote::default();
                        progress(&Event::Restarting {
                            url,
                            reason: &error.to_string(),
                        });
                        continue;
                    }
                },
                Err(Failure::Transient {
                    reason,
                    retry_after,
                }) => (reason, retry_after),
                Err(failure) => return Err(failure),
            };
        let bytes = part_bytes();
        is_resumed = bytes > 0;
        if bytes > best.saturating_add(PROGRESS_BYTES) {
            tries_left = terms.options.attempts.max(1);
            delay = terms.options.backoff;
        }
        best = best.max(bytes);
        tries_left -= 1;
        if tries_left == 0 {
            return Err(Failure::Permanent { reason });
        }
        let pause = retry_after.unwrap_or(delay).min(MAX_DELAY);
        progress(&Event::Retrying {
            url,
            reason: &reason,
            delay: pause,
        });
        std::thread::sleep(pause);
        delay = (delay * 2).min(MAX_DELAY);
    }
    Err(Failure::Permanent {
        reason: format!("not complete after {MAX_REQUESTS} requests"),
    })
}

/// The error of a downloaded container names the address, since its file is gone.
fn named(error: Error, url: &str) -> Error {
    let address = PathBuf::from(url);
    match error {
        Error::ChecksumMismatch {
            member,
            expected,
            found,
            ..
        } => Error::ChecksumMismatch {
            path: address,
            member,
            expected,
            found,
        },
        Error::WrongSize {
            member,
            expected,
            found,
            ..
        } => Error::WrongSize {
            path: address,
            member,
            expected,
            found,
        },
        Error::MissingMember { member, .. } => Error::MissingMember {
            path: address,
            member,
        },
        Error::DuplicateMember { member, .. } => Error::DuplicateMember {
            path: address,
            member,
        },
        Error::NotARegularFile { member, .. } => Error::NotARegularFile {
            path: address,
            member,
        },
        Error::NotGzip { found, .. } => Error::NotGzip {
            path: address,
            found,
        },
        Error::PythonVersion { .. } => Error::PythonVersion { path: address },
        Error::TruncatedArchive {
            expected, found, ..
        } => Error::TruncatedArchive {
            path: address,
            expected,
            found,
        },
        Error::CorruptArchive { reason, .. } => Error::CorruptArchive {
            path: address,
            reason,
        },
        Error::ArchiveLimit {
            archive,
            limit,
            what,
            ..
        } => Error::ArchiveLimit {
            path: address,
            archive,
            limit,
            what,
        },
        other => other,
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
