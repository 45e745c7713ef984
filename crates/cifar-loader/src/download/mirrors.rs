//! Goes from mirror to mirror until one has delivered the container.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::KnownArchive;
use crate::download::download_options::DownloadOptions;
use crate::download::progress::Event;
use crate::download::publish::{partial_path, publish_file};
use crate::download::transfer::{Remote, TransferLimits, agent, fetch_rest};
use crate::download::transfer_failure::Failure;
use crate::error::{Error, MirrorFailure};
use crate::free_space::require;

/// A new start counts as progress, and refills the tries, only beyond this many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Requests to one mirror, whatever progress they make.
const MAX_REQUESTS: u32 = 100;
const MAX_DELAY: Duration = Duration::from_secs(60);

/// A mirror in the queue, with its rate when it was left for being slow.
struct Candidate<'a> {
    url: &'a str,
    slow_rate: Option<f64>,
}

/// Tries the mirrors in order until one has delivered, and publishes the members.
pub(crate) fn from_mirrors(
    archive: &KnownArchive,
    data_dir: &Path,
    options: &DownloadOptions,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Error> {
    let partial = partial_path(archive, data_dir);
    // The container stays until its members are published.
    let container = (archive.container).map_or(archive.max_bytes(), |container| container.bytes);
    let received = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    let needed = container.saturating_sub(received) + archive.member_bytes();
    require(data_dir, needed)?;
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
        let mut limits = TransferLimits {
            options,
            known_total: archive.container.map(|container| container.bytes),
            max_bytes: archive.max_bytes(),
            next,
            is_slow_announced: candidate.slow_rate.is_some(),
        };
        let reason = match from_mirror(archive, data_dir, url, &partial, &mut limits, progress) {
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
    let received = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    if received == 0 {
        let _ = fs::remove_file(&partial);
    }
    match content_errors.pop() {
        Some(error) if content_errors.len() + 1 == failures.len() => Err(error),
        _ => Err(Error::DownloadFailed {
            path: partial,
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
    partial: &Path,
    limits: &mut TransferLimits<'_>,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<PathBuf, Failure> {
    let agent = agent(url, limits.options);
    let partial_bytes = || fs::metadata(partial).map_or(0, |metadata| metadata.len());
    let mut remote = Remote::default();
    let mut best = partial_bytes();
    let mut tries_left = limits.options.attempts.max(1);
    let mut delay = limits.options.backoff;
    // Bytes from an earlier run may be what makes the whole wrong; a container from one go has no such excuse.
    let mut is_resumed = best > 0;
    for attempt in 1..=MAX_REQUESTS {
        let (reason, retry_after) =
            match fetch_rest(&agent, url, partial, &mut remote, limits, attempt, progress) {
                Ok(()) => match publish_file(archive, data_dir, partial, progress) {
                    Ok(folder) => {
                        let _ = fs::remove_file(partial);
                        return Ok(folder);
                    }
                    Err(error @ (Error::Write { .. } | Error::DiskFull { .. })) => {
                        return Err(Failure::Local(error));
                    }
                    // Without a length, the end of a broken connection looks like the end of the file.
                    Err(Error::TruncatedArchive { .. }) if !remote.has_total() => {
                        let reason = "the connection ended inside the archive".to_owned();
                        (reason, None)
                    }
                    Err(error) => {
                        fs::remove_file(partial)
                            .map_err(|source| Failure::Local(Error::write(partial, source)))?;
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
        let bytes = partial_bytes();
        is_resumed = bytes > 0;
        if bytes > best.saturating_add(PROGRESS_BYTES) {
            tries_left = limits.options.attempts.max(1);
            delay = limits.options.backoff;
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
